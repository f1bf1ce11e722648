//! A store on the command line, for measurements without a daemon.
//!
//! ```text
//! store ROOT load ARCHIVE            load an archive (OCI layout or docker-archive)
//! store ROOT pull OCI-ARCHIVE        unpack the layers of an OCI layout side by side, as a pull does
//! store ROOT save NAME|ID FILE       save an image ("-": standard output)
//! store ROOT list | gc | rm NAME|ID | verify
//! store ROOT commits N               time durable commits, one after the other
//! ```

use agent_store::{
    Begin, ChainId, Digest, LoadEvent, LoadOptions, NewImage, NewManifest, SaveImage, SaveName, Store, StoreConfig,
    Unpack,
};
use std::error::Error;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let begin = Instant::now();
    let (store, recovered) = Store::open(StoreConfig::new(*args.get(1).ok_or("no ROOT given")?))?;
    eprintln!("open {:?} ({recovered:?})", begin.elapsed());
    let begin = Instant::now();
    match args.get(2..).unwrap_or_default() {
        ["load", archive] => {
            let options = LoadOptions {
                normalise: &|name| Some(name.to_owned()),
                architecture: "amd64".to_owned(),
                variant: String::new(),
                only: false,
            };
            let loaded = store.archive().load(File::open(archive)?, &options, &mut |event| {
                if let LoadEvent::LayerDone { id } = event {
                    eprintln!("{id} {:?}", begin.elapsed());
                }
            })?;
            for one in loaded.images {
                println!("{} {:?}", one.image.id, one.names);
            }
        }
        ["pull", archive] => pull(&store, archive)?,
        ["save", name, file] => {
            let image = store.images().get(name)?;
            let names = image
                .names
                .iter()
                .map(|n| SaveName {
                    familiar: n.clone(),
                    normalised: n.clone(),
                })
                .collect();
            let images = [SaveImage { image, names }];
            match *file {
                "-" => store.archive().save(&images, std::io::stdout().lock())?,
                "null" => store.archive().save(&images, std::io::sink())?,
                file => store.archive().save(&images, File::create(file)?)?,
            }
        }
        ["list"] => {
            for image in store.images().list() {
                println!("{} {} {:?}", image.id.short(), image.size, image.names);
            }
        }
        ["rm", name] => {
            let image = store.images().get(name)?;
            println!("{:?}", store.images().remove(&image.id)?.layers);
        }
        ["commits", count] => {
            let mut times = Vec::new();
            for n in 0..count.parse()? {
                let mut batch = agent_store::Batch::new();
                batch.put("example", &format!("{}", n % 200), vec![b'x'; 4000]);
                let begin = Instant::now();
                store.db().commit_blocking(batch)?;
                times.push(begin.elapsed());
            }
            times.sort();
            println!(
                "p50 {:?} p95 {:?}",
                times[times.len() / 2],
                times[times.len() * 95 / 100]
            );
        }
        ["gc"] => println!("{:?}", store.gc()?),
        ["verify"] => {
            for layer in store.layers().list() {
                let begin = Instant::now();
                let mut hasher = agent_store::Hasher::sha256();
                store.layers().tar(&layer.chain)?.write_to(&mut hasher)?;
                let same = hasher.finish() == layer.diff_id;
                println!(
                    "{} {} {same} {:?}",
                    layer.chain.digest().short(),
                    layer.tar_bytes,
                    begin.elapsed()
                );
            }
        }
        _ => return Err("no such command; see the head of this file".into()),
    }
    std::io::stdout().flush()?;
    eprintln!("done {:?}", begin.elapsed());
    Ok(())
}

/// All layers at once, up to the number of processors, each read from its place in the archive.
fn pull(store: &Store, path: &str) -> Result<(), Box<dyn Error>> {
    let blobs = blobs(path)?;
    let read = |digest: &str| -> Result<Vec<u8>, Box<dyn Error>> {
        let (at, size) = *blobs.get(digest).ok_or("the archive lacks a blob")?;
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(at))?;
        let mut bytes = Vec::new();
        file.take(size).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let index: serde_json::Value = serde_json::from_slice(&read("index.json")?)?;
    let descriptor = &index["manifests"][0];
    let manifest_bytes = read(descriptor["digest"].as_str().unwrap_or_default())?;
    let manifest: serde_json::Value = serde_json::from_slice(&manifest_bytes)?;
    let config = read(manifest["config"]["digest"].as_str().unwrap_or_default())?;
    let parsed = agent_store::ImageConfig::parse(&config)?;
    let chain = ChainId::chain(&parsed.rootfs.diff_ids);
    let lease = store.lease();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || -> Result<(), String> {
        loop {
            let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some(diff_id) = parsed.rootfs.diff_ids.get(n) else {
                return Ok(());
            };
            let begin = Instant::now();
            let digest = manifest["layers"][n]["digest"].as_str().unwrap_or_default();
            let &(at, size) = blobs.get(digest).ok_or("the archive lacks a layer")?;
            let mut file = File::open(path).map_err(|e| e.to_string())?;
            file.seek(SeekFrom::Start(at)).map_err(|e| e.to_string())?;
            let parent = n.checked_sub(1).map(|n| &chain[n]);
            if let Begin::Write(writer) = store.layers().begin(&lease, parent, diff_id) {
                let expected = Some((Digest::parse(digest).map_err(|e| e.to_string())?, size));
                let unpack = Unpack {
                    tree: false,
                    expected,
                    ..Unpack::default()
                };
                store
                    .layers()
                    .unpack(writer, file.take(size), unpack)
                    .map_err(|e| e.to_string())?;
            }
            eprintln!("layer {n} {:?}", begin.elapsed());
        }
    };
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| -> Result<(), String> {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|w| w.join().map_err(|_| "a worker panicked".to_owned())?)
    })?;
    let manifest = NewManifest {
        media_type: agent_store::OCI_MANIFEST.to_owned(),
        bytes: manifest_bytes,
    };
    let names = vec!["example/pulled:latest".to_owned()];
    let image = store.images().put(NewImage {
        config,
        manifest: Some(manifest),
        names,
        digests: Vec::new(),
    })?;
    println!("{}", image.id);
    Ok(())
}

/// Where the blobs of an OCI archive are.
fn blobs(path: &str) -> Result<std::collections::HashMap<String, (u64, u64)>, Box<dyn Error>> {
    let mut blobs = std::collections::HashMap::new();
    for entry in tar::Archive::new(File::open(path)?).entries_with_seek()? {
        let entry = entry?;
        let name = entry.path()?.to_string_lossy().into_owned();
        let name = name
            .strip_prefix("blobs/sha256/")
            .map_or(name.clone(), |hex| format!("sha256:{hex}"));
        blobs.insert(name, (entry.raw_file_position(), entry.size()));
    }
    Ok(blobs)
}
