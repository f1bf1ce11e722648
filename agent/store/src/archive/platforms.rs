//! Which images of an archive are for the platform that is wanted.

use super::documents::{Collected, Descriptor, Index, Platform, is_attestation};
use super::load::{LoadOptions, blob_path};
use crate::error::{Error, Result};
use crate::image::ImageConfig;

/// Platforms that an error names, and letters of each.
const OTHERS: usize = 16;
const WORDS: usize = 64;

impl Platform {
    /// Without a variant on one side it is no difference.
    pub(super) fn fits(&self, options: &LoadOptions<'_>) -> bool {
        let variant = self.variant.as_deref().unwrap_or_default();
        let any = !options.only || options.variant.is_empty() || variant.is_empty();
        self.os == "linux" && self.architecture == options.architecture && (any || variant == options.variant)
    }

    /// Cut where an archive has more to say than a message should.
    fn words(&self) -> String {
        let parts = [&self.os, &self.architecture].into_iter().chain(&self.variant);
        let parts: Vec<&str> = parts.map(String::as_str).filter(|part| !part.is_empty()).collect();
        parts.join("/").chars().take(WORDS).collect()
    }
}

/// The platforms that were met and not wanted.
#[derive(Debug, Default)]
pub(super) struct Others(Vec<String>);

impl Others {
    pub fn add(&mut self, platform: &Platform) {
        self.merge(vec![platform.words()]);
    }

    pub fn merge(&mut self, more: Vec<String>) {
        for one in more {
            if self.0.len() < OTHERS && !self.0.contains(&one) {
                self.0.push(one);
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn error(self, options: &LoadOptions<'_>) -> Error {
        let wanted = Platform {
            os: "linux".to_owned(),
            architecture: options.architecture.clone(),
            variant: Some(options.variant.clone()).filter(|variant| options.only && !variant.is_empty()),
        };
        Error::OtherPlatform {
            wanted: wanted.words(),
            offered: self.0,
        }
    }
}

/// Whether an image with this configuration is to be loaded; one that is not is noted.
pub(super) fn wanted(config: &[u8], options: &LoadOptions<'_>, others: &mut Others) -> Result<bool> {
    if !options.only {
        return Ok(true);
    }
    let config = ImageConfig::parse(config)?;
    let platform = Platform {
        architecture: config.architecture,
        os: config.os,
        variant: Some(config.variant).filter(|variant| !variant.is_empty()),
    };
    if platform.fits(options) {
        return Ok(true);
    }
    others.add(&platform);
    Ok(false)
}

/// The manifest for our platform, among those that the archive really has.
pub(super) fn choose<'i>(found: &Collected, index: &'i Index, options: &LoadOptions<'_>) -> Result<&'i Descriptor> {
    let images: Vec<&Descriptor> = index.manifests.iter().filter(|d| !is_attestation(d)).collect();
    let here = |d: &&&Descriptor| found.has(&blob_path(d));
    let ours = |d: &&&Descriptor| d.platform.as_ref().is_none_or(|p| p.fits(options));
    let exact = |d: &&&Descriptor| {
        d.platform
            .as_ref()
            .is_some_and(|p| p.variant.as_deref().unwrap_or_default() == options.variant)
    };
    let candidates: Vec<&&Descriptor> = images.iter().filter(here).filter(ours).collect();
    let chosen = candidates.iter().find(|d| exact(d)).or_else(|| candidates.first());
    chosen.map(|d| **d).ok_or_else(|| {
        let mut others = Others::default();
        images
            .iter()
            .filter_map(|d| d.platform.as_ref())
            .for_each(|p| others.add(p));
        others.error(options)
    })
}
