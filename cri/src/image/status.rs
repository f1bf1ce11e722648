//! `ImageStatus`: an image that is not there is an answer without one, and no error.

use std::collections::HashMap;

use agent_engine::{Engine, Error};
use tonic::Status;

use super::{named, shown::shown};
use crate::error;
use cri_api::{ImageStatusRequest, ImageStatusResponse};

pub fn status(engine: &Engine, request: &ImageStatusRequest) -> Result<ImageStatusResponse, Status> {
    let image = match engine.find_image(named(request.image.as_ref())?) {
        Ok(image) => image,
        Err(Error::NoSuchImage(_)) => return Ok(ImageStatusResponse::default()),
        Err(error) => return Err(error::status(error)),
    };
    let mut info = HashMap::new();
    if request.verbose {
        info.insert("config".to_owned(), String::from_utf8_lossy(&image.config).into_owned());
    }
    Ok(ImageStatusResponse {
        image: Some(shown(&engine.pins(), &image)),
        info,
    })
}
