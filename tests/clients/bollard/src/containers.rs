//! Containers: made, looked at, limited, ended.

use std::collections::HashMap;
use std::sync::Arc;

use bollard::models::{ContainerCreateBody, ContainerStateStatusEnum, ContainerUpdateBody, HostConfig};
use bollard::query_parameters::*;
use futures_util::TryStreamExt;

use crate::checks::{Check, World, refusal, unique, words};

pub fn checks() -> Vec<Check> {
    crate::checks![
        a_container_has_what_it_was_made_with,
        a_name_is_given_once,
        an_unknown_image_is_not_found,
        a_list_has_its_filters,
        wait_gives_the_exit_code,
        stop_and_start_again,
        kill_sends_a_signal,
        pause_and_unpause,
        restart_is_another_process,
        rename_keeps_the_container,
        update_reaches_the_container,
        remove_wants_force_for_what_runs,
        top_names_the_processes,
        changes_are_told,
        stats_once_and_as_a_stream,
    ]
}

fn shell(line: &str) -> ContainerCreateBody {
    ContainerCreateBody {
        cmd: Some(words(&["sh", "-c", line])),
        ..Default::default()
    }
}

async fn state(world: &World, id: &str) -> bollard::models::ContainerState {
    world.docker.inspect_container(id, None).await.unwrap().state.unwrap()
}

async fn code(world: &World, id: &str) -> i64 {
    match world.docker.wait_container(id, None).try_next().await {
        Ok(ended) => ended.unwrap().status_code,
        // To this client a code that is not zero is a failure.
        Err(bollard::errors::Error::DockerContainerWaitError { code, .. }) => code,
        Err(other) => panic!("{other}"),
    }
}

async fn a_container_has_what_it_was_made_with(world: Arc<World>) {
    let name = unique("made");
    let body = ContainerCreateBody {
        env: Some(words(&["A=b c"])),
        labels: Some(HashMap::from([("of".to_owned(), name.clone())])),
        working_dir: Some("/tmp".into()),
        host_config: Some(HostConfig {
            memory: Some(32 << 20),
            network_mode: Some("none".into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    let id = world.create(&name, body).await;
    let made = world.docker.inspect_container(&name, None).await.unwrap();
    assert_eq!(
        (made.id.as_ref(), made.name.as_deref()),
        (Some(&id), Some(format!("/{name}").as_str()))
    );
    let config = made.config.unwrap();
    assert!(config.env.unwrap().contains(&"A=b c".to_owned()));
    assert_eq!(config.labels.unwrap()["of"], name);
    assert_eq!(config.working_dir.as_deref(), Some("/tmp"));
    assert_eq!(made.host_config.unwrap().memory, Some(32 << 20));
    assert_eq!(state(&world, &id).await.status, Some(ContainerStateStatusEnum::CREATED));
}

async fn a_name_is_given_once(world: Arc<World>) {
    let name = unique("once");
    world.create(&name, ContainerCreateBody::default()).await;
    let options = CreateContainerOptionsBuilder::new().name(&name).build();
    let body = ContainerCreateBody {
        image: Some("busybox".into()),
        ..Default::default()
    };
    let (status, said) = refusal(world.docker.create_container(Some(options), body).await);
    assert!(
        status == 409 && said.contains("is already in use by container"),
        "{status} {said}"
    );
}

async fn an_unknown_image_is_not_found(world: Arc<World>) {
    let body = ContainerCreateBody {
        image: Some(unique("nothing")),
        ..Default::default()
    };
    let (status, said) = refusal(world.docker.create_container(None, body).await);
    assert!(status == 404 && said.contains("No such image"), "{status} {said}");
}

async fn a_list_has_its_filters(world: Arc<World>) {
    let label = unique("list");
    let body = || ContainerCreateBody {
        labels: Some(HashMap::from([(label.clone(), String::new())])),
        ..Default::default()
    };
    let rests = world.create(&unique("rests"), body()).await;
    let runs = world.start(body()).await;
    let ids = async |all: bool, status: Option<&str>| {
        let mut filters = HashMap::from([("label", vec![label.clone()])]);
        filters.extend(status.map(|status| ("status", vec![status.to_owned()])));
        let options = ListContainersOptionsBuilder::new().all(all).filters(&filters).build();
        let found = world.docker.list_containers(Some(options)).await.unwrap();
        found.into_iter().map(|one| one.id.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(ids(false, None).await, [runs.as_str()]);
    assert_eq!(ids(true, None).await, [runs.as_str(), rests.as_str()]);
    assert_eq!(ids(true, Some("created")).await, [rests.as_str()]);
}

async fn wait_gives_the_exit_code(world: Arc<World>) {
    let id = world.start(shell("exit 7")).await;
    assert_eq!(code(&world, &id).await, 7);
    assert_eq!(state(&world, &id).await.exit_code, Some(7));
    let id = world.start(shell("true")).await;
    assert_eq!(code(&world, &id).await, 0);
}

async fn stop_and_start_again(world: Arc<World>) {
    let id = world
        .start(shell("trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done"))
        .await;
    // Before that a first process has no handler, and the kernel drops the signal.
    let options = LogsOptionsBuilder::new().stdout(true).follow(true).build();
    Box::pin(world.docker.logs(&id, Some(options)))
        .try_next()
        .await
        .unwrap();
    world.docker.stop_container(&id, None).await.unwrap();
    let ended = state(&world, &id).await;
    assert_eq!(ended.status, Some(ContainerStateStatusEnum::EXITED));
    assert!(matches!(ended.exit_code, Some(3 | 143)), "{ended:?}");
    world.docker.start_container(&id, None).await.unwrap();
    assert_eq!(state(&world, &id).await.running, Some(true));
    let options = StopContainerOptionsBuilder::new().t(0).build();
    world.docker.stop_container(&id, Some(options)).await.unwrap();
    assert_eq!(state(&world, &id).await.running, Some(false));
}

async fn kill_sends_a_signal(world: Arc<World>) {
    let id = world.start(ContainerCreateBody::default()).await;
    let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
    world.docker.kill_container(&id, Some(options)).await.unwrap();
    assert_eq!(code(&world, &id).await, 137);
    let (status, said) = refusal(world.docker.kill_container(&id, None).await);
    assert!(status == 409 && said.contains("is not running"), "{status} {said}");
}

async fn pause_and_unpause(world: Arc<World>) {
    let id = world.start(ContainerCreateBody::default()).await;
    world.docker.pause_container(&id).await.unwrap();
    assert_eq!(state(&world, &id).await.status, Some(ContainerStateStatusEnum::PAUSED));
    world.docker.unpause_container(&id).await.unwrap();
    assert_eq!(state(&world, &id).await.status, Some(ContainerStateStatusEnum::RUNNING));
}

async fn restart_is_another_process(world: Arc<World>) {
    let id = world.start(ContainerCreateBody::default()).await;
    let before = state(&world, &id).await.pid;
    let options = RestartContainerOptionsBuilder::new().t(0).build();
    world.docker.restart_container(&id, Some(options)).await.unwrap();
    let after = state(&world, &id).await;
    assert!(after.running == Some(true) && after.pid != before, "{after:?}");
}

async fn rename_keeps_the_container(world: Arc<World>) {
    let id = world.create(&unique("old"), ContainerCreateBody::default()).await;
    let name = unique("new");
    world
        .docker
        .rename_container(&id, RenameContainerOptionsBuilder::new().name(&name).build())
        .await
        .unwrap();
    assert_eq!(world.docker.inspect_container(&name, None).await.unwrap().id, Some(id));
}

async fn update_reaches_the_container(world: Arc<World>) {
    let id = world.start(ContainerCreateBody::default()).await;
    let body = ContainerUpdateBody {
        pids_limit: Some(55),
        ..Default::default()
    };
    world.docker.update_container(&id, body).await.unwrap();
    let host = world
        .docker
        .inspect_container(&id, None)
        .await
        .unwrap()
        .host_config
        .unwrap();
    assert_eq!(host.pids_limit, Some(55));
}

async fn remove_wants_force_for_what_runs(world: Arc<World>) {
    let id = world.start(ContainerCreateBody::default()).await;
    let (status, said) = refusal(world.docker.remove_container(&id, None).await);
    assert!(status == 409 && said.contains("running"), "{status} {said}");
    let options = RemoveContainerOptionsBuilder::new().force(true).build();
    world.docker.remove_container(&id, Some(options)).await.unwrap();
    assert_eq!(refusal(world.docker.inspect_container(&id, None).await).0, 404);
}

async fn top_names_the_processes(world: Arc<World>) {
    let id = world.start(ContainerCreateBody::default()).await;
    let told = world.docker.top_processes(&id, None).await.unwrap();
    assert!(!told.titles.unwrap().is_empty());
    let processes = told.processes.unwrap();
    assert!(
        processes.len() == 1 && processes[0].iter().any(|word| word.contains("sleep 1000")),
        "{processes:?}"
    );
}

async fn changes_are_told(world: Arc<World>) {
    let id = world.start(shell("echo x > /new")).await;
    code(&world, &id).await;
    let changes = world.docker.container_changes(&id).await.unwrap().unwrap();
    assert!(changes.iter().any(|change| change.path == "/new"), "{changes:?}");
}

async fn stats_once_and_as_a_stream(world: Arc<World>) {
    let id = world.start(ContainerCreateBody::default()).await;
    let options = StatsOptionsBuilder::new().stream(false).build();
    let once = world
        .docker
        .stats(&id, Some(options))
        .try_next()
        .await
        .unwrap()
        .unwrap();
    assert!(once.cpu_stats.unwrap().cpu_usage.unwrap().total_usage.unwrap() > 0);
    assert!(once.memory_stats.unwrap().usage.unwrap() > 0);
    let options = StatsOptionsBuilder::new().stream(true).build();
    let mut stream = std::pin::pin!(world.docker.stats(&id, Some(options)));
    for _ in 0..2 {
        let next = stream.try_next().await.unwrap().unwrap();
        assert_eq!(next.id.as_ref(), Some(&id));
    }
}
