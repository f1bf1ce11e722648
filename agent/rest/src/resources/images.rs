//! Images: list, inspect, history, tag, delete, prune.

use agent_api::container::GraphDriver;
use agent_api::image::{
    DeleteItem, Descriptor, HistoryItem, ImageConfig, Inspect, ManifestImage, ManifestSize, ManifestSummary, Metadata,
    Platform, PruneReport, RootFs, Summary, UnpackedSize,
};
use agent_api::time::Time;
use agent_api::{StringMap, json};
use agent_engine::Engine;
use agent_engine::image::{ImageSummary, RemovedPart};
use agent_engine::view::{Image, Manifest};
use axum::extract::State;
use http::StatusCode;

use super::images_stream;
use super::inspect::{STORAGE_DRIVER, signed};
use super::platforms;
use crate::error::{ApiError, ApiResult};
use crate::reply;
use crate::request::{Query, Target};
use crate::version::ApiVersion;

/// `GET /images/{name}/json|history|get`: the name may have slashes, the last part is the verb.
pub async fn get(state: State<Engine>, version: ApiVersion, Target(path): Target, query: Query) -> ApiResult {
    match path.rsplit_once('/') {
        Some((name, "json")) => inspect(&state.0, version, name, &query),
        Some((name, "history")) => history(&state.0, name, &query),
        Some((name, "get")) => images_stream::save(state.0, vec![name.to_owned()], &query),
        Some((_, "attestations")) => Err(ApiError::unsupported("listing attestations of images")),
        _ => Err(ApiError::page_not_found()),
    }
}

/// `POST /images/{name}/tag|push`.
pub async fn post(State(engine): State<Engine>, Target(path): Target, query: Query) -> ApiResult {
    match path.rsplit_once('/') {
        Some((name, "tag")) => {
            engine.tag(name, query.get("repo"), query.get("tag")).await?;
            Ok(reply::empty(StatusCode::CREATED))
        }
        Some((_, "push")) => Err(ApiError::unsupported("pushing images")),
        _ => Err(ApiError::page_not_found()),
    }
}

/// `DELETE /images/{name}`.
pub async fn delete(
    State(engine): State<Engine>,
    version: ApiVersion,
    Target(name): Target,
    query: Query,
) -> ApiResult {
    let only = match version.since(50) {
        true => platforms::one(&query.all("platforms"))?,
        false => None,
    };
    let removed = engine
        .remove_image(&name, only, query.flag("force"), query.flag("noprune"))
        .await?;
    Ok(reply::ok(&removed.into_iter().map(item).collect::<Vec<_>>()))
}

fn item(part: RemovedPart) -> DeleteItem {
    match part {
        RemovedPart::Untagged(untagged) => DeleteItem {
            untagged,
            ..DeleteItem::default()
        },
        RemovedPart::Deleted(deleted) => DeleteItem {
            deleted,
            ..DeleteItem::default()
        },
    }
}

fn platform(image: &Image) -> Platform {
    let own = &image.parsed;
    Platform {
        architecture: own.architecture.clone(),
        os: own.os.clone(),
        os_version: own.os_version.clone(),
        variant: own.variant.clone(),
    }
}

/// The one manifest that an image has here.
fn manifests(engine: &Engine, one: &ImageSummary) -> Vec<ManifestSummary> {
    let image = &one.image;
    let Some(manifest) = engine.image_manifest(image) else {
        return Vec::new();
    };
    let content = manifest.bytes.len() + image.config.len();
    let content = signed(content as u64);
    vec![ManifestSummary {
        id: manifest.digest.to_string(),
        descriptor: Descriptor {
            platform: Some(platform(image)),
            ..descriptor(&manifest)
        },
        available: true,
        // Layers are kept unpacked alone; of what travels, manifest and configuration are here.
        size: ManifestSize {
            total: content + signed(image.size),
            content,
        },
        kind: "image".to_owned(),
        image_data: Some(ManifestImage {
            platform: platform(image),
            containers: one.containers.clone(),
            size: UnpackedSize {
                unpacked: signed(image.size),
            },
        }),
    }]
}

fn descriptor(manifest: &Manifest) -> Descriptor {
    Descriptor {
        media_type: manifest.media_type.clone(),
        digest: manifest.digest.to_string(),
        size: signed(manifest.bytes.len() as u64),
        ..Descriptor::default()
    }
}

fn created(image: &Image) -> Time {
    image
        .parsed
        .created
        .as_deref()
        .and_then(|text| text.parse().ok())
        .unwrap_or(Time::NEVER)
}

pub fn summary(one: &ImageSummary, version: ApiVersion) -> Summary {
    let image = &one.image;
    let created = created(image);
    // Clients of old versions expect a word where there is none.
    let nameless = one.tags.is_empty() && one.digests.is_empty() && !version.since(43);
    let named = |list: &Vec<String>, word: &str| {
        if nameless { vec![word.to_owned()] } else { list.clone() }
    };
    Summary {
        containers: if version.since(51) {
            signed(one.containers.len() as u64)
        } else {
            -1
        },
        created: if created == Time::NEVER { 0 } else { created.unix() },
        id: image.id.to_string(),
        labels: image.parsed.config.labels.clone(),
        parent_id: image.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
        repo_digests: named(&one.digests, "<none>@<none>"),
        repo_tags: named(&one.tags, "<none>:<none>"),
        shared_size: -1,
        size: signed(image.size),
        virtual_size: (!version.since(44)).then(|| signed(image.size)),
        descriptor: None,
        manifests: None,
    }
}

pub async fn list(State(engine): State<Engine>, version: ApiVersion, query: Query) -> ApiResult {
    if version.since(54) {
        query.refuse(&["identity"])?;
    }
    let images = engine.list_images(query.flag("all"), &query.filters()?)?;
    let mut rows: Vec<Summary> = images.iter().map(|one| summary(one, version)).collect();
    if query.flag("shared-size") {
        let shared = engine.shared_sizes();
        for row in &mut rows {
            row.shared_size = shared.get(&row.id).copied().map_or(0, signed);
        }
    }
    if version.since(47) && query.flag("manifests") {
        for (row, one) in rows.iter_mut().zip(&images) {
            row.manifests = Some(manifests(&engine, one));
        }
    }
    if version.since(48) {
        for (row, one) in rows.iter_mut().zip(&images) {
            row.descriptor = one.image.manifest.as_ref().map(descriptor);
        }
    }
    Ok(reply::ok(&rows))
}

/// The image's own defaults. What a hostile configuration file has of other types is left out.
fn config(image: &Image) -> ImageConfig {
    let value = serde_json::to_value(&image.parsed.config).unwrap_or_default();
    json::from_value(value).unwrap_or_default()
}

fn inspect(engine: &Engine, version: ApiVersion, name: &str, query: &Query) -> ApiResult {
    let with_manifests = version.since(48) && query.flag("manifests");
    if with_manifests && !query.get("platform").is_empty() {
        return Err(ApiError::bad(
            "conflicting options: manifests and platform options cannot both be set",
        ));
    }
    let one = engine.inspect_image(name)?;
    let image = &one.image;
    platforms::check(name, image, &query.all("platform"))?;
    let parsed = &image.parsed;
    let mut config = config(image);
    if !version.since(50) {
        config.add_legacy();
    }
    let old = !version.since(45);
    let created = created(image);
    Ok(reply::ok(&Inspect {
        id: image.id.to_string(),
        repo_tags: one.tags.clone(),
        repo_digests: one.digests.clone(),
        parent: image
            .parent
            .as_ref()
            .map(ToString::to_string)
            .or((!version.since(53)).then(String::new)),
        comment: parsed.comment.clone(),
        created: Some(created).filter(|time| *time != Time::NEVER || !version.since(44)),
        docker_version: Some(parsed.docker_version.clone()).filter(|text| !text.is_empty() || !version.since(53)),
        author: parsed.author.clone(),
        architecture: parsed.architecture.clone(),
        variant: parsed.variant.clone(),
        os: parsed.os.clone(),
        os_version: parsed.os_version.clone(),
        size: signed(image.size),
        virtual_size: (!version.since(44)).then(|| signed(image.size)),
        graph_driver: Some(graph_driver(engine, image)),
        root_fs: RootFs {
            kind: "layers".to_owned(),
            layers: Some(parsed.rootfs.diff_ids.iter().map(ToString::to_string).collect()),
        },
        metadata: Metadata {
            last_tag_time: last_tag(image),
        },
        descriptor: image.manifest.as_ref().filter(|_| version.since(48)).map(descriptor),
        manifests: with_manifests.then(|| manifests(engine, &one)),
        config: Some(config),
        container: old.then(String::new),
        container_config: old.then(Default::default),
    }))
}

fn last_tag(image: &Image) -> Time {
    match u64::try_from(image.tagged_ns) {
        Ok(nanos) if nanos > 0 => {
            Time::from(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(nanos))
        }
        _ => Time::NEVER,
    }
}

fn graph_driver(engine: &Engine, image: &Image) -> GraphDriver {
    let mut folders = engine
        .image_layers(image)
        .into_iter()
        .map(|path| path.display().to_string());
    let mut data = StringMap::new();
    if let Some(top) = folders.next() {
        data.insert("UpperDir".to_owned(), top);
    }
    let lower: Vec<String> = folders.collect();
    if !lower.is_empty() {
        data.insert("LowerDir".to_owned(), lower.join(":"));
    }
    GraphDriver {
        data: Some(data),
        name: STORAGE_DRIVER.to_owned(),
    }
}

fn history(engine: &Engine, name: &str, query: &Query) -> ApiResult {
    let one = engine.inspect_image(name)?;
    platforms::check(name, &one.image, &query.all("platform"))?;
    let mut items = steps(&one, engine.layer_sizes(&one.image));
    // Images that this one was made from here have ids of their own.
    let mut above = engine.image_parent(&one.image);
    for item in items.iter_mut().skip(1) {
        let Some(parent) = above else { break };
        item.id = parent.id.to_string();
        let tags: Vec<String> = parent.names.iter().map(|name| engine.familiar(name)).collect();
        item.tags = Some(tags).filter(|tags| !tags.is_empty());
        above = engine.image_parent(&parent);
    }
    Ok(reply::ok(&items))
}

/// Newest first. A configuration without history still has one step for each layer.
fn steps(one: &ImageSummary, sizes: Vec<u64>) -> Vec<HistoryItem> {
    let parsed = &one.image.parsed;
    let missing = || "<missing>".to_owned();
    let mut sizes = sizes.into_iter();
    let mut items: Vec<HistoryItem> = parsed
        .history
        .iter()
        .map(|step| HistoryItem {
            comment: step.comment.clone(),
            created: step
                .created
                .as_deref()
                .and_then(|text| text.parse::<Time>().ok())
                .map_or(0, Time::unix),
            created_by: step.created_by.clone(),
            id: missing(),
            size: if step.empty_layer {
                0
            } else {
                signed(sizes.next().unwrap_or(0))
            },
            tags: None,
        })
        .collect();
    items.extend(sizes.map(|size| HistoryItem {
        id: missing(),
        size: signed(size),
        ..HistoryItem::default()
    }));
    items.reverse();
    if let Some(newest) = items.first_mut() {
        newest.id = one.image.id.to_string();
        newest.tags = Some(one.tags.clone()).filter(|tags| !tags.is_empty());
    }
    items
}

pub async fn prune(State(engine): State<Engine>, query: Query) -> ApiResult {
    let filters = query.filters()?;
    filters.only(&["label", "label!", "until", "dangling"])?;
    let dangling = filters.flag("dangling")?.unwrap_or(true);
    let (removed, space_reclaimed) = engine.prune_images(!dangling, filters).await?;
    let images_deleted = Some(removed.into_iter().map(item).collect()).filter(|list: &Vec<_>| !list.is_empty());
    Ok(reply::ok(&PruneReport {
        images_deleted,
        space_reclaimed,
    }))
}
