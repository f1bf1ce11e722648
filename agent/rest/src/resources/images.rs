//! Images: list, inspect, history, tag, delete, prune.

use std::collections::BTreeMap;

use agent_api::container::GraphDriver;
use agent_api::image::{
    DeleteItem, Descriptor, HistoryItem, ImageConfig, Inspect, Metadata, PruneReport, RootFs, Summary,
};
use agent_api::time::Time;
use agent_api::{StringMap, json};
use agent_engine::Engine;
use agent_engine::image::{ImageSummary, RemovedPart};
use agent_engine::view::Image;
use axum::extract::State;
use http::StatusCode;

use super::images_stream;
use super::inspect::{STORAGE_DRIVER, signed};
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
pub async fn delete(State(engine): State<Engine>, Target(name): Target, query: Query) -> ApiResult {
    if query.has("platforms") {
        return Err(ApiError::unsupported("removing single platforms of an image"));
    }
    let removed = engine
        // `noprune` keeps untagged parent images; this store has none, a layer is no image here.
        .remove_image(&name, query.flag("force"))
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

/// The only platform values that can be served: those of the one platform an image has here.
pub fn check_platform(image: &Image, query: &Query) -> ApiResult<()> {
    for text in query.all("platform").iter().filter(|text| !text.is_empty()) {
        let wanted: agent_api::image::Platform = json::from_slice(text.as_bytes())
            .map_err(|error| ApiError::bad(format!("invalid platform {text:?}: {error}")))?;
        let own = &image.parsed;
        let variant = wanted.variant.is_empty() || own.variant.is_empty() || wanted.variant == own.variant;
        if own.os != wanted.os || own.architecture != wanted.architecture || !variant {
            return Err(ApiError::new(
                StatusCode::NOT_FOUND,
                format!(
                    "image does not provide the specified platform ({}/{})",
                    wanted.os, wanted.architecture
                ),
            ));
        }
    }
    Ok(())
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
    Summary {
        containers: if version.since(51) {
            i64::try_from(one.containers).unwrap_or(i64::MAX)
        } else {
            -1
        },
        created: if created == Time::NEVER { 0 } else { created.unix() },
        id: image.id.to_string(),
        labels: image.parsed.config.labels.clone(),
        parent_id: String::new(),
        repo_digests: one.digests.clone(),
        repo_tags: one.tags.clone(),
        shared_size: -1,
        size: signed(image.size),
        virtual_size: (!version.since(44)).then(|| signed(image.size)),
        descriptor: None,
    }
}

pub async fn list(State(engine): State<Engine>, version: ApiVersion, query: Query) -> ApiResult {
    if version.since(47) {
        query.refuse(&["manifests"])?;
    }
    let images = engine.list_images(&query.filters()?)?;
    let mut rows: Vec<Summary> = images.iter().map(|one| summary(one, version)).collect();
    if query.flag("shared-size") {
        let sizes: Vec<Vec<(String, u64)>> = images.iter().map(|one| layers(&engine, &one.image)).collect();
        let mut users: BTreeMap<&str, usize> = BTreeMap::new();
        for (chain, _) in sizes.iter().flatten() {
            *users.entry(chain).or_default() += 1;
        }
        for (row, layers) in rows.iter_mut().zip(&sizes) {
            let shared = layers
                .iter()
                .filter(|(chain, _)| users.get(chain.as_str()).is_some_and(|count| *count > 1));
            row.shared_size = signed(shared.map(|(_, bytes)| bytes).sum());
        }
    }
    Ok(reply::ok(&rows))
}

/// Chain id and bytes of each layer, bottom first.
pub fn layers(engine: &Engine, image: &Image) -> Vec<(String, u64)> {
    image
        .chain
        .iter()
        .map(ToString::to_string)
        .zip(engine.layer_sizes(image))
        .collect()
}

/// The image's own defaults. What a hostile configuration file has of other types is left out.
fn config(image: &Image) -> ImageConfig {
    let value = serde_json::to_value(&image.parsed.config).unwrap_or_default();
    json::from_value(value).unwrap_or_default()
}

fn inspect(engine: &Engine, version: ApiVersion, name: &str, query: &Query) -> ApiResult {
    if query.flag("manifests") {
        return Err(ApiError::unsupported("query parameter \"manifests\""));
    }
    let one = engine.inspect_image(name)?;
    let image = &one.image;
    check_platform(image, query)?;
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
        parent: Some(String::new()).filter(|_| !version.since(53)),
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
        descriptor: image
            .manifest
            .as_ref()
            .filter(|_| version.since(48))
            .map(|manifest| Descriptor {
                media_type: manifest.media_type.clone(),
                digest: manifest.digest.to_string(),
                size: i64::try_from(manifest.bytes.len()).unwrap_or(i64::MAX),
                ..Descriptor::default()
            }),
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
    check_platform(&one.image, query)?;
    Ok(reply::ok(&steps(&one, engine.layer_sizes(&one.image))))
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
