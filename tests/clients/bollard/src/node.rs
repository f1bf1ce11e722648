//! What is asked of the daemon itself, and what outlives containers: images, volumes, events.

use std::collections::HashMap;
use std::sync::Arc;

use bollard::ClientVersion;
use bollard::models::{ContainerCreateBody, HostConfig, VolumeCreateRequest};
use bollard::query_parameters::*;
use futures_util::{StreamExt, TryStreamExt};

use crate::checks::{Check, World, refusal, unique, words};

pub fn checks() -> Vec<Check> {
    crate::checks![
        a_version_is_negotiated,
        the_daemon_says_what_it_is,
        images_are_listed_and_inspected,
        an_image_has_names,
        an_archive_goes_out_and_comes_in,
        a_pull_from_a_registry,
        a_pull_of_nothing_says_so,
        volumes_are_made_found_and_removed,
        a_volume_keeps_what_was_written,
        events_tell_what_happens,
        disk_use_is_told,
        networks_are_shown,
    ]
}

async fn a_version_is_negotiated(world: Arc<World>) {
    let ClientVersion {
        major_version,
        minor_version,
    } = world.docker.client_version();
    assert_eq!(major_version, 1);
    assert!(minor_version >= 44, "{minor_version}");
    assert_eq!(world.docker.ping().await.unwrap(), "OK");
}

async fn the_daemon_says_what_it_is(world: Arc<World>) {
    let version = world.docker.version().await.unwrap();
    assert_eq!(version.os.as_deref(), Some("linux"));
    assert!(
        version.api_version.is_some() && version.version.is_some(),
        "{version:?}"
    );
    let info = world.docker.info().await.unwrap();
    assert!(
        info.ncpu.unwrap() > 0 && info.mem_total.unwrap() > 0 && info.id.is_some(),
        "{info:?}"
    );
}

async fn images_are_listed_and_inspected(world: Arc<World>) {
    let all = world.docker.list_images(None::<ListImagesOptions>).await.unwrap();
    let found = all
        .iter()
        .find(|image| image.repo_tags.contains(&"busybox:latest".to_owned()));
    let image = world.docker.inspect_image("busybox").await.unwrap();
    assert_eq!(image.id.as_ref(), Some(&found.expect("busybox is listed").id));
    assert_eq!(image.os.as_deref(), Some("linux"));
    let history = world.docker.image_history("busybox").await.unwrap();
    assert!(!history.is_empty());
    let (status, words) = refusal(world.docker.inspect_image(&unique("nothing")).await);
    assert!(status == 404 && words.contains("No such image"), "{status} {words}");
}

async fn an_image_has_names(world: Arc<World>) {
    let name = world.image(unique("tagged"));
    let options = TagImageOptionsBuilder::new().repo(&name).tag("v1").build();
    world.docker.tag_image("busybox", Some(options)).await.unwrap();
    let other = format!("{name}:v1");
    assert!(
        world
            .docker
            .inspect_image(&other)
            .await
            .unwrap()
            .repo_tags
            .unwrap()
            .contains(&other)
    );
    let gone = world
        .docker
        .remove_image(&other, None::<RemoveImageOptions>, None)
        .await
        .unwrap();
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0].untagged.as_ref(), Some(&other));
    assert_eq!(refusal(world.docker.inspect_image(&other).await).0, 404);
}

async fn an_archive_goes_out_and_comes_in(world: Arc<World>) {
    let name = world.image(format!("{}:1", unique("saved")));
    let (repository, tag) = name.split_once(':').unwrap();
    let options = TagImageOptionsBuilder::new().repo(repository).tag(tag).build();
    world.docker.tag_image("busybox", Some(options)).await.unwrap();
    let parts: Vec<_> = world.docker.export_image(&name).try_collect().await.unwrap();
    let archive = parts.concat();
    world
        .docker
        .remove_image(&name, None::<RemoveImageOptions>, None)
        .await
        .unwrap();
    let loading = world.docker.import_image(
        ImportImageOptionsBuilder::new().quiet(false).build(),
        bollard::body_full(archive.into()),
        None,
    );
    let told: Vec<_> = loading.try_collect().await.unwrap();
    let text: String = told.iter().filter_map(|one| one.stream.clone()).collect();
    assert!(text.contains(&format!("Loaded image: {name}")), "{told:?}");
    world.docker.inspect_image(&name).await.unwrap();
}

/// `behaviour --beside` has put it there.
async fn a_pull_from_a_registry(world: Arc<World>) {
    let registry = std::env::var("IECHOR_TEST_REGISTRY").unwrap();
    let name = format!("{registry}/clients/pull");
    let options = CreateImageOptionsBuilder::new().from_image(&name).tag("v1").build();
    let told: Vec<_> = world
        .docker
        .create_image(Some(options), None, None)
        .try_collect()
        .await
        .unwrap();
    let name = world.image(format!("{name}:v1"));
    let said = |text: &str| {
        told.iter()
            .any(|one| one.status.as_deref().is_some_and(|status| status.contains(text)))
    };
    assert!(
        said("Pulling from") && said("Digest: sha256:") && said("Status: "),
        "{told:?}"
    );
    world.docker.inspect_image(&name).await.unwrap();
    // Without a tag it is all that there are.
    world
        .docker
        .remove_image(&name, None::<RemoveImageOptions>, None)
        .await
        .unwrap();
    let repository = name.rsplit_once(':').unwrap().0;
    let options = CreateImageOptionsBuilder::new().from_image(repository).build();
    let all: Vec<_> = world
        .docker
        .create_image(Some(options), None, None)
        .try_collect()
        .await
        .unwrap();
    assert!(!all.is_empty());
    world.docker.inspect_image(&name).await.unwrap();
}

async fn a_pull_of_nothing_says_so(world: Arc<World>) {
    let registry = std::env::var("IECHOR_TEST_REGISTRY").unwrap();
    let options = CreateImageOptionsBuilder::new()
        .from_image(&format!("{registry}/{}", unique("none")))
        .tag("1")
        .build();
    let told: Result<Vec<_>, _> = world.docker.create_image(Some(options), None, None).try_collect().await;
    let (status, words) = refusal(told);
    assert!(status == 404 && words.contains("not found"), "{status} {words}");
}

async fn volumes_are_made_found_and_removed(world: Arc<World>) {
    let name = unique("volume");
    let labels = HashMap::from([("of".to_owned(), name.clone())]);
    let made = world
        .volume(VolumeCreateRequest {
            name: Some(name.clone()),
            labels: Some(labels),
            ..Default::default()
        })
        .await;
    assert_eq!((made.name.as_str(), made.driver.as_str()), (name.as_str(), "local"));
    assert_eq!(
        world.docker.inspect_volume(&name).await.unwrap().mountpoint,
        made.mountpoint
    );
    let filters = HashMap::from([("label", vec![format!("of={name}")])]);
    let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
    let listed = world.docker.list_volumes(Some(options)).await.unwrap().volumes.unwrap();
    assert_eq!(listed.iter().map(|volume| &volume.name).collect::<Vec<_>>(), [&name]);
    world
        .docker
        .remove_volume(&name, None::<RemoveVolumeOptions>)
        .await
        .unwrap();
    let (status, words) = refusal(world.docker.inspect_volume(&name).await);
    assert!(status == 404 && words.contains("no such volume"), "{status} {words}");
}

async fn a_volume_keeps_what_was_written(world: Arc<World>) {
    let volume = world
        .volume(VolumeCreateRequest {
            name: Some(unique("kept")),
            ..Default::default()
        })
        .await;
    let host = HostConfig {
        binds: Some(vec![format!("{}:/data", volume.name)]),
        ..Default::default()
    };
    for line in ["echo kept > /data/file", "grep kept /data/file"] {
        let cmd = Some(words(&["sh", "-c", line]));
        let id = world
            .start(ContainerCreateBody {
                cmd,
                host_config: Some(host.clone()),
                ..Default::default()
            })
            .await;
        let ended = world
            .docker
            .wait_container(&id, None)
            .try_next()
            .await
            .unwrap()
            .unwrap();
        assert_eq!(ended.status_code, 0, "{line}");
        let in_use = world
            .docker
            .remove_volume(&volume.name, None::<RemoveVolumeOptions>)
            .await;
        assert_eq!(refusal(in_use).0, 409);
    }
}

async fn events_tell_what_happens(world: Arc<World>) {
    let name = unique("events");
    let filters = HashMap::from([
        ("container", vec![name.clone()]),
        ("type", vec!["container".to_owned()]),
    ]);
    let options = EventsOptionsBuilder::new().since("1").filters(&filters).build();
    let mut live = std::pin::pin!(world.docker.events(Some(options)));
    let id = world
        .create(
            &name,
            ContainerCreateBody {
                cmd: Some(words(&["true"])),
                ..Default::default()
            },
        )
        .await;
    world.docker.start_container(&id, None).await.unwrap();
    world.docker.wait_container(&id, None).try_next().await.unwrap();
    world.docker.remove_container(&id, None).await.unwrap();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|action| action != "destroy") {
        let event = live.next().await.unwrap().unwrap();
        assert_eq!(event.actor.unwrap().attributes.unwrap()["name"], name);
        seen.push(event.action.unwrap());
    }
    seen.retain(|action| ["create", "start", "die", "destroy"].contains(&action.as_str()));
    assert_eq!(seen, ["create", "start", "die", "destroy"]);
}

async fn disk_use_is_told(world: Arc<World>) {
    world.docker.df(None).await.unwrap();
}

async fn networks_are_shown(world: Arc<World>) {
    let all = world.docker.list_networks(None::<ListNetworksOptions>).await.unwrap();
    let names: Vec<_> = all.iter().filter_map(|network| network.name.as_deref()).collect();
    for name in ["bridge", "host", "none"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let bridge = world
        .docker
        .inspect_network("bridge", None::<InspectNetworkOptions>)
        .await
        .unwrap();
    assert_eq!(bridge.driver.as_deref(), Some("bridge"));
}
