//! What a check is here, and how they are run: each makes what it needs under names of its own, and what it made goes
//! when it has ended, also when it failed.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::{ContainerCreateBody, VolumeCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder, RemoveVolumeOptionsBuilder,
};
use futures_util::StreamExt;

/// What is waited for here takes a second; the rest is for a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
const JOBS: usize = 4;

type Run = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Its name is what the user of the client was promised.
pub struct Check {
    pub name: &'static str,
    pub run: fn(Arc<World>) -> Run,
}

/// Checks of functions, under their names.
#[macro_export]
macro_rules! checks {
    ($($name:ident),* $(,)?) => {
        vec![$($crate::checks::Check { name: stringify!($name), run: |world| Box::pin($name(world)) }),*]
    };
}

/// A client, and what was made with it.
pub struct World {
    pub docker: Docker,
    containers: Mutex<Vec<String>>,
    volumes: Mutex<Vec<String>>,
    images: Mutex<Vec<String>>,
}

impl World {
    async fn connect() -> World {
        let docker = Docker::connect_with_defaults().expect("the socket of DOCKER_HOST");
        World {
            docker: docker.negotiate_version().await.expect("a version that both know"),
            containers: Mutex::default(),
            volumes: Mutex::default(),
            images: Mutex::default(),
        }
    }

    /// A container that is not started, of busybox where nothing else is said; its id.
    pub async fn create(&self, name: &str, mut body: ContainerCreateBody) -> String {
        body.image.get_or_insert_with(|| "busybox".into());
        body.cmd.get_or_insert_with(|| words(&["sleep", "1000"]));
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        let made = self.docker.create_container(Some(options), body).await.unwrap();
        self.containers.lock().unwrap().push(made.id.clone());
        made.id
    }

    pub async fn start(&self, body: ContainerCreateBody) -> String {
        let id = self.create(&unique("bollard"), body).await;
        self.docker.start_container(&id, None).await.unwrap();
        id
    }

    pub async fn volume(&self, request: VolumeCreateRequest) -> bollard::models::Volume {
        let made = self.docker.create_volume(request).await.unwrap();
        self.volumes.lock().unwrap().push(made.name.clone());
        made
    }

    /// A name of an image that goes.
    pub fn image(&self, name: String) -> String {
        self.images.lock().unwrap().push(name.clone());
        name
    }

    async fn finish(&self) {
        // What a check has removed itself is no longer there.
        for id in taken(&self.containers) {
            let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
            let _ = self.docker.remove_container(&id, Some(options)).await;
        }
        for name in taken(&self.volumes) {
            let options = RemoveVolumeOptionsBuilder::new().force(true).build();
            let _ = self.docker.remove_volume(&name, Some(options)).await;
        }
        for name in taken(&self.images) {
            let options = RemoveImageOptionsBuilder::new().force(true).build();
            let _ = self.docker.remove_image(&name, Some(options), None).await;
        }
    }
}

fn taken(list: &Mutex<Vec<String>>) -> Vec<String> {
    std::mem::take(&mut *list.lock().unwrap())
}

/// A name that nobody else uses.
pub fn unique(what: &str) -> String {
    let own = std::fs::read_to_string("/proc/sys/kernel/random/uuid").expect("the kernel's random names");
    format!("{what}-{}", &own[..8])
}

pub fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|word| (*word).to_owned()).collect()
}

/// What the daemon said, and its status.
pub fn refusal<T: std::fmt::Debug>(result: Result<T, bollard::errors::Error>) -> (u16, String) {
    match result {
        Err(bollard::errors::Error::DockerResponseServerError { status_code, message }) => (status_code, message),
        other => panic!("no refusal: {other:?}"),
    }
}

/// Runs all checks, or those with a word of the command line in their name; the exit code.
pub async fn run(suite: &str, mut all: Vec<Check>) -> i32 {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    all.retain(|check| wanted.is_empty() || wanted.iter().any(|word| check.name.contains(word.as_str())));
    // What a check panics with is told with its verdict.
    let said: Arc<Mutex<Vec<(tokio::task::Id, String)>>> = Arc::default();
    let heard = said.clone();
    std::panic::set_hook(Box::new(move |info| {
        if let Some(id) = tokio::task::try_id() {
            heard.lock().unwrap().push((id, info.to_string().replace('\n', " | ")));
        }
    }));
    let begin = Instant::now();
    let verdicts = futures_util::stream::iter(all.into_iter().map(|check| {
        let said = said.clone();
        async move {
            let begin = Instant::now();
            let world = Arc::new(World::connect().await);
            let task = tokio::spawn(tokio::time::timeout(2 * PATIENCE, (check.run)(world.clone())));
            let id = task.id();
            let why = match task.await {
                Ok(Ok(())) => None,
                Ok(Err(_)) => Some("it did not end in time".to_owned()),
                Err(_) => {
                    let said = said.lock().unwrap();
                    Some(
                        said.iter()
                            .find(|(of, _)| *of == id)
                            .map_or_else(String::new, |(_, text)| text.clone()),
                    )
                }
            };
            world.finish().await;
            let seconds = begin.elapsed().as_secs_f32();
            match &why {
                None => println!("  ok    {} ({seconds:.1} s)", check.name),
                Some(why) => println!("  FAIL  {}: {why:.1200} ({seconds:.1} s)", check.name),
            }
            why.is_none()
        }
    }));
    let verdicts: Vec<bool> = verdicts.buffer_unordered(JOBS).collect().await;
    let passed = verdicts.iter().filter(|right| **right).count();
    let failed = verdicts.len() - passed;
    println!(
        "suite {suite}: {passed} passed, {failed} failed, 0 skipped ({:.0} s)",
        begin.elapsed().as_secs_f32()
    );
    i32::from(failed > 0)
}
