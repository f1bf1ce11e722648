//! Images made here, from Debian's packages, without any registry.
//!
//! An [`Image`] is layers as plain tar bytes and a config; it is written out as a docker archive or an OCI
//! layout, or pushed layer by layer (see `registry`).

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::tools::unpacked;

/// 2024-01-01: images are the same, byte for byte, every time they are made.
const TIME: u64 = 1_704_067_200;
const CREATED: &str = "2024-01-01T00:00:00Z";

/// Kinds of tar entries.
pub const FILE: tar::EntryType = tar::EntryType::Regular;
pub const LINK: tar::EntryType = tar::EntryType::Link;
pub const SYMLINK: tar::EntryType = tar::EntryType::Symlink;
pub const CHARACTER: tar::EntryType = tar::EntryType::Char;

/// How a layer travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// An image: what a registry or an archive would hold.
#[derive(Debug, Clone)]
pub struct Image {
    /// Uncompressed tar bytes, lowest first.
    pub layers: Vec<Vec<u8>>,
    /// The `config` object of the image config: Cmd, Env, …
    pub config: Value,
    pub architecture: &'static str,
}

pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A layer under construction.
pub struct Layer(tar::Builder<Vec<u8>>);

impl Default for Layer {
    fn default() -> Layer {
        Layer(tar::Builder::new(Vec::new()))
    }
}

impl Layer {
    fn header(kind: tar::EntryType, mode: u32, owner: (u64, u64), size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner.0);
        header.set_gid(owner.1);
        header.set_size(size);
        header.set_mtime(TIME);
        header
    }

    pub fn folder(mut self, path: &str, mode: u32) -> Layer {
        let mut header = Layer::header(tar::EntryType::Directory, mode, (0, 0), 0);
        self.0
            .append_data(&mut header, format!("{path}/"), std::io::empty())
            .expect("a folder in a tar");
        self
    }

    pub fn file(self, path: &str, mode: u32, bytes: &[u8]) -> Layer {
        self.file_of(path, mode, (0, 0), bytes)
    }

    pub fn file_of(mut self, path: &str, mode: u32, owner: (u64, u64), bytes: &[u8]) -> Layer {
        let mut header = Layer::header(tar::EntryType::Regular, mode, owner, bytes.len() as u64);
        self.0.append_data(&mut header, path, bytes).expect("a file in a tar");
        self
    }

    pub fn symlink(mut self, path: &str, target: &str) -> Layer {
        let mut header = Layer::header(tar::EntryType::Symlink, 0o777, (0, 0), 0);
        self.0.append_link(&mut header, path, target).expect("a link in a tar");
        self
    }

    /// Another name of `target`; tars repeat the mode and the owner of the file that is linked to.
    pub fn hardlink(mut self, path: &str, target: &str, mode: u32, owner: (u64, u64)) -> Layer {
        let mut header = Layer::header(tar::EntryType::Link, mode, owner, 0);
        self.0
            .append_link(&mut header, path, target)
            .expect("a hard link in a tar");
        self
    }

    pub fn device(mut self, path: &str, kind: tar::EntryType, major: u32, minor: u32) -> Layer {
        let mut header = Layer::header(kind, 0o666, (0, 0), 0);
        header.set_device_major(major).expect("a device header");
        header.set_device_minor(minor).expect("a device header");
        self.0
            .append_data(&mut header, path, std::io::empty())
            .expect("a device in a tar");
        self
    }

    /// An extended attribute (or any other PAX record) for the next entry.
    pub fn pax(mut self, key: &str, value: &[u8]) -> Layer {
        self.0.append_pax_extensions([(key, value)]).expect("a PAX header");
        self
    }

    /// An entry whose name is written into the header as it is: absolute, with `..`, anything.
    pub fn hostile(mut self, name: &[u8], kind: tar::EntryType, link: &[u8], bytes: &[u8]) -> Layer {
        let mut header = Layer::header(kind, 0o644, (0, 0), bytes.len() as u64);
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.set_cksum();
        self.0.append(&header, bytes).expect("an entry in a tar");
        self
    }

    /// Everything below `root`, with its modes and links.
    pub fn tree(mut self, root: &Path, prefix: &str) -> Layer {
        let mut names: Vec<_> = std::fs::read_dir(root)
            .unwrap_or_else(|error| panic!("{}: {error}", root.display()))
            .map(|entry| entry.expect("a folder entry").file_name())
            .collect();
        names.sort();
        for name in names {
            let path = root.join(&name);
            let inside = format!("{prefix}{}", name.to_str().expect("an UTF-8 name"));
            let meta = path.symlink_metadata().expect("the entry's metadata");
            let mode = meta.permissions().mode() & 0o7777;
            if meta.is_dir() {
                self = self.folder(&inside, mode).tree(&path, &format!("{inside}/"));
            } else if meta.is_symlink() {
                let target = std::fs::read_link(&path).expect("the link's target");
                self = self.symlink(&inside, target.to_str().expect("an UTF-8 target"));
            } else if meta.is_file() {
                let bytes = std::fs::read(&path).expect("the file's bytes");
                assert_eq!(bytes.len() as u64, meta.size());
                self = self.file(&inside, mode, &bytes);
            }
        }
        self
    }

    pub fn bytes(self) -> Vec<u8> {
        self.0.into_inner().expect("a finished tar")
    }
}

/// A root file system of Debian's static busybox and the files that programs look for.
fn busybox_layer() -> Layer {
    let program = unpacked("busybox/bin/busybox");
    let list = Command::new(&program).arg("--list").output().expect("busybox runs");
    let mut layer = Layer::default();
    for folder in [
        "bin", "dev", "etc", "home", "proc", "sys", "root", "var", "usr", "usr/bin",
    ] {
        layer = layer.folder(folder, 0o755);
    }
    layer = layer.folder("tmp", 0o1777);
    layer = layer.file("bin/busybox", 0o755, &std::fs::read(&program).expect("busybox's bytes"));
    for applet in String::from_utf8_lossy(&list.stdout)
        .lines()
        .filter(|name| *name != "busybox")
    {
        layer = layer.symlink(&format!("bin/{applet}"), "busybox");
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:/bin/false\nwww-data:x:33:33::/var/www:/bin/false\n\
                  user:x:1000:1000:a user:/home/user:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n";
    let group =
        "root:x:0:\ndaemon:x:1:\nwww-data:x:33:\naudio:x:29:user\nusers:x:100:user\nuser:x:1000:\nnogroup:x:65534:\n";
    layer = layer.file("etc/passwd", 0o644, passwd.as_bytes());
    layer = layer.file("etc/group", 0o644, group.as_bytes());
    layer.folder("home/user", 0o755)
}

impl Image {
    /// busybox with `sh` as its command.
    pub fn busybox() -> Image {
        let config =
            json!({"Cmd": ["sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]});
        Image {
            layers: vec![busybox_layer().bytes()],
            config,
            architecture: "amd64",
        }
    }

    /// What `iechor run -i -t ubuntu /bin/bash` needs: Debian's bash with its libraries over busybox.
    pub fn ubuntu() -> Image {
        let bash = unpacked("ubuntu");
        // Debian's root has merged /usr in its packages' paths since bookworm; here nothing is merged, so the
        // two files go where the dynamic linker and the user look for them.
        let mut layer = Layer::default()
            .folder("lib", 0o755)
            .folder("lib64", 0o755)
            .folder("lib/x86_64-linux-gnu", 0o755);
        for name in ["libc.so.6", "libtinfo.so.6", "libdl.so.2", "ld-linux-x86-64.so.2"] {
            let found = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib64"]
                .iter()
                .find_map(|folder| std::fs::read(bash.join(folder).join(name)).ok());
            let bytes = found.unwrap_or_else(|| panic!("{name} is not in Debian's packages"));
            layer = layer.file(&format!("lib/x86_64-linux-gnu/{name}"), 0o755, &bytes);
        }
        layer = layer.symlink(
            "lib64/ld-linux-x86-64.so.2",
            "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
        );
        let program = std::fs::read(bash.join("bin/bash")).or_else(|_| std::fs::read(bash.join("usr/bin/bash")));
        layer = layer.file("bin/bash", 0o755, &program.expect("bash from Debian's package"));
        let top = Layer::default()
            .file("etc/os-release", 0o644, b"NAME=\"iEchor test image\"\nID=ubuntu\n")
            .file("etc/bash.bashrc", 0o644, b"PS1='\\u@\\h:\\w\\$ '\n");
        let config =
            json!({"Cmd": ["/bin/bash"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]});
        Image {
            layers: vec![busybox_layer().bytes(), layer.bytes(), top.bytes()],
            config,
            architecture: "amd64",
        }
    }

    /// busybox with further settings in its config.
    pub fn with(mut self, key: &str, value: Value) -> Image {
        self.config[key] = value;
        self
    }

    pub fn layer(mut self, layer: Layer) -> Image {
        self.layers.push(layer.bytes());
        self
    }

    /// The image config, the bytes whose digest is the image's id.
    pub fn config_bytes(&self) -> Vec<u8> {
        let diff_ids: Vec<String> = self.layers.iter().map(|layer| digest(layer)).collect();
        let history: Vec<Value> = (0..self.layers.len())
            .map(|number| json!({"created": CREATED, "created_by": format!("layer {number}")}))
            .collect();
        let config = json!({
            "architecture": self.architecture, "os": "linux", "created": CREATED, "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": history,
        });
        config.to_string().into_bytes()
    }

    pub fn id(&self) -> String {
        digest(&self.config_bytes())
    }

    /// The form `docker save` wrote for years.
    pub fn docker_archive(&self, name: &str) -> Vec<u8> {
        let config = self.config_bytes();
        let config_name = format!("{}.json", &digest(&config)[7..]);
        let mut archive = Layer::default().file(&config_name, 0o644, &config);
        let mut names = Vec::new();
        for layer in &self.layers {
            let folder = digest(layer)[7..].to_owned();
            names.push(format!("{folder}/layer.tar"));
            archive = archive
                .folder(&folder, 0o755)
                .file(&format!("{folder}/layer.tar"), 0o644, layer);
        }
        let manifest = json!([{"Config": config_name, "RepoTags": [name], "Layers": names}]);
        archive
            .file("manifest.json", 0o644, manifest.to_string().as_bytes())
            .bytes()
    }

    /// An OCI image layout in a tar.
    pub fn oci_archive(&self, name: &str, packing: Packing) -> Vec<u8> {
        let (manifest, blobs) = self.manifest(true, packing);
        let mut archive = Layer::default()
            .file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)
            .folder("blobs", 0o755)
            .folder("blobs/sha256", 0o755);
        for blob in blobs.iter().chain([&manifest]) {
            archive = archive.file(&format!("blobs/sha256/{}", &digest(blob)[7..]), 0o644, blob);
        }
        let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(&manifest), "size": manifest.len(),
            "annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rsplit(':').next()},
        }]});
        archive.file("index.json", 0o644, index.to_string().as_bytes()).bytes()
    }

    /// The manifest, in OCI's words or Docker's, and the blobs that it names (config first).
    pub fn manifest(&self, oci: bool, packing: Packing) -> (Vec<u8>, Vec<Vec<u8>>) {
        let config = self.config_bytes();
        let packed: Vec<Vec<u8>> = self.layers.iter().map(|layer| pack(layer, packing)).collect();
        let layer_type = match (oci, packing) {
            (true, Packing::Plain) => "application/vnd.oci.image.layer.v1.tar",
            (true, Packing::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (_, Packing::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            (false, Packing::Plain) => "application/vnd.docker.image.rootfs.diff.tar",
            (false, Packing::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        };
        let (kind, config_type) = match oci {
            true => (
                "application/vnd.oci.image.manifest.v1+json",
                "application/vnd.oci.image.config.v1+json",
            ),
            false => (
                "application/vnd.docker.distribution.manifest.v2+json",
                "application/vnd.docker.container.image.v1+json",
            ),
        };
        let layers: Vec<Value> = packed
            .iter()
            .map(|blob| json!({"mediaType": layer_type, "size": blob.len(), "digest": digest(blob)}))
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": kind,
            "config": {"mediaType": config_type, "size": config.len(), "digest": digest(&config)},
            "layers": layers,
        });
        let mut blobs = vec![config];
        blobs.extend(packed);
        (manifest.to_string().into_bytes(), blobs)
    }
}

fn pack(bytes: &[u8], packing: Packing) -> Vec<u8> {
    match packing {
        Packing::Plain => bytes.to_vec(),
        Packing::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).expect("gzip in memory");
            encoder.finish().expect("gzip in memory")
        }
        Packing::Zstd => zstd::encode_all(bytes, 1).expect("zstd in memory"),
    }
}

/// The names in a tar, each with its bytes.
pub fn entries(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut reader = tar::Archive::new(archive);
    let entries = reader.entries().expect("a tar");
    entries
        .map(|entry| {
            let mut entry = entry.expect("a tar entry");
            let name = entry.path().expect("an entry's name").to_string_lossy().into_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("an entry's bytes");
            (name, bytes)
        })
        .collect()
}

/// The names in a tar, each as it stands there.
pub fn raw_names(archive: &[u8]) -> Vec<String> {
    let mut reader = tar::Archive::new(archive);
    let entries = reader.entries().expect("a tar");
    entries
        .map(|entry| String::from_utf8_lossy(&entry.expect("a tar entry").path_bytes()).into_owned())
        .collect()
}
