//! `ImageFsInfo`: what images take of the disk.

use std::time::SystemTime;

use agent_engine::Engine;

use cri_api::{FilesystemIdentifier, FilesystemUsage, ImageFsInfoResponse, UInt64Value};

pub fn of(engine: &Engine) -> ImageFsInfoResponse {
    let (bytes, inodes) = engine.image_bytes_and_inodes();
    let since_1970 = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    // Layers and containers' own files are on one file system.
    let usage = FilesystemUsage {
        timestamp: i64::try_from(since_1970.as_nanos()).unwrap_or(i64::MAX),
        fs_id: Some(FilesystemIdentifier {
            mountpoint: engine.data_root().display().to_string(),
        }),
        used_bytes: Some(UInt64Value { value: bytes }),
        inodes_used: Some(UInt64Value { value: inodes }),
    };
    ImageFsInfoResponse {
        image_filesystems: vec![usage.clone()],
        container_filesystems: vec![usage],
    }
}
