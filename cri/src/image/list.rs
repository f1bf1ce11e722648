//! `ListImages` and `StreamImages`.

use agent_engine::{Engine, Error};
use tonic::Status;

use super::shown::shown;
use crate::error::status;
use cri_api as api;

/// Images in one message of a stream.
const BATCH: usize = 256;

/// All images, or the one that the filter names.
pub fn images(engine: &Engine, filter: Option<api::ImageFilter>) -> Result<Vec<api::Image>, Status> {
    let wanted = filter.and_then(|filter| filter.image).map(|spec| spec.image);
    let pins = engine.pins();
    match wanted.filter(|name| !name.is_empty()) {
        None => Ok(engine.images().iter().map(|image| shown(&pins, image)).collect()),
        Some(name) => match engine.find_image(&name) {
            Ok(image) => Ok(vec![shown(&pins, &image)]),
            Err(Error::NoSuchImage(_)) => Ok(Vec::new()),
            Err(error) => Err(status(error)),
        },
    }
}

/// In messages of which none is too large. Without images there is none.
pub fn batches(images: Vec<api::Image>) -> impl Iterator<Item = Vec<api::Image>> {
    let mut images = images.into_iter();
    std::iter::from_fn(move || {
        let batch: Vec<_> = images.by_ref().take(BATCH).collect();
        (!batch.is_empty()).then_some(batch)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_image_is_in_one_batch() {
        for count in [0, 1, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH] {
            let images: Vec<_> = (0..count)
                .map(|number| api::Image {
                    id: number.to_string(),
                    ..api::Image::default()
                })
                .collect();
            let batches: Vec<_> = batches(images.clone()).collect();
            assert!(batches.iter().all(|batch| (1..=BATCH).contains(&batch.len())));
            assert_eq!(batches.concat(), images);
        }
    }
}
