//! Load, save, import and export: images and trees as archives.

use std::io::{Read, Write};
use std::sync::Arc;

use agent_registry::{Download, Platform};
use agent_store::{ExportOptions, Image, ImportOptions, LoadEvent, LoadOptions, RunConfig, SaveImage, SaveName};

use crate::Engine;
use crate::container::Container;
use crate::error::{Error, Result};
use crate::events::EventKind;

/// What a load said when it was done: one line per name (or id) that is there now.
#[derive(Clone, Debug)]
pub struct LoadedName {
    pub image: Arc<Image>,
    /// Familiar names; empty when the archive had none.
    pub names: Vec<String>,
    /// Familiar names that were another image's before, with that image's id.
    pub renamed: Vec<(String, String)>,
}

/// How an imported image is to be.
#[derive(Clone, Debug, Default)]
pub struct ImportRequest {
    pub repository: String,
    pub tag: String,
    pub message: String,
    /// Instructions, as [`super::instructions`] reads them.
    pub changes: Vec<String>,
    /// `os/arch/variant`, empty for the host's.
    pub platform: String,
}

impl Engine {
    /// Loads an archive, or what it has for one platform. Blocks: call it on the blocking pool.
    pub fn load(
        &self,
        reader: impl Read + Send,
        only: Option<&Platform>,
        mut progress: impl FnMut(LoadEvent),
    ) -> Result<Vec<LoadedName>> {
        let normalise = |name: &str| {
            self.reference(name)
                .ok()
                .map(|reference| reference.or_latest().canonical())
        };
        let platform = match only {
            None => Platform::host(),
            Some(asked) => Platform::new(&asked.os, &asked.architecture, asked.variant.as_deref()),
        };
        if platform.os != "linux" {
            return Err(Error::invalid(format!("cannot load {} image on linux", platform.os)));
        }
        let options = LoadOptions {
            normalise: &normalise,
            architecture: platform.architecture,
            variant: platform.variant.unwrap_or_default(),
            only: only.is_some(),
        };
        let loaded = self.store.archive().load(reader, &options, &mut progress)?;
        if loaded.images.is_empty() {
            return Err(Error::invalid("invalid image archive: it has no image"));
        }
        let mut names = Vec::new();
        for one in loaded.images {
            self.names_are_users(one.names.iter().cloned());
            let familiar: Vec<String> = one.names.iter().map(|name| self.familiar(name)).collect();
            self.image_event(
                "load",
                one.image.id.as_str(),
                familiar.first().map_or(one.image.id.as_str(), String::as_str),
            );
            names.push(LoadedName {
                names: familiar,
                renamed: one
                    .renamed
                    .iter()
                    .map(|(name, id)| (self.familiar(name), id.to_string()))
                    .collect(),
                image: one.image,
            });
        }
        Ok(names)
    }

    /// What `names` select, checked before the first byte is written.
    pub fn save_selection(&self, names: &[String]) -> Result<Vec<SaveImage>> {
        if names.is_empty() {
            return Err(Error::invalid("no image was named"));
        }
        let mut selected: Vec<SaveImage> = Vec::new();
        for name in names {
            let image = self.find_image(name)?;
            let as_name = |canonical: &String| SaveName {
                familiar: self.familiar(canonical),
                normalised: canonical.clone(),
            };
            let wanted: Vec<SaveName> = match self.reference(name) {
                Ok(reference) if reference.digest().is_none() => {
                    // A repository without a tag means all of its tags, as with docker save.
                    let exact = reference.clone().or_latest().canonical();
                    let prefix = format!("{}:", reference.name());
                    let all = reference.tag().is_none();
                    image
                        .names
                        .iter()
                        .filter(|own| **own == exact || (all && own.starts_with(&prefix)))
                        .map(as_name)
                        .collect()
                }
                _ => Vec::new(),
            };
            match selected.iter_mut().find(|other| other.image.id == image.id) {
                Some(other) => {
                    for name in wanted {
                        if !other.names.iter().any(|own| own.normalised == name.normalised) {
                            other.names.push(name);
                        }
                    }
                }
                None => selected.push(SaveImage { image, names: wanted }),
            }
        }
        Ok(selected)
    }

    /// Writes an archive of the selection. Blocks.
    pub fn save(&self, selection: &[SaveImage], writer: impl Write) -> Result<()> {
        self.store.archive().save(selection, writer)?;
        for one in selection {
            self.image_event("save", one.image.id.as_str(), one.image.id.as_str());
        }
        Ok(())
    }

    /// Asks a web server for the file at `address`, to be imported.
    ///
    /// # Errors
    /// An address that is none; what the server or the connection says.
    pub async fn download(&self, address: &str) -> Result<Download> {
        Ok(self.live().registry.download(address).await?)
    }

    /// Makes an image from the tar of a root file system. Blocks.
    pub fn import(&self, reader: impl Read + Send, request: ImportRequest) -> Result<Arc<Image>> {
        let names = match request.repository.as_str() {
            "" => Vec::new(),
            repository => {
                let text = match request.tag.as_str() {
                    "" => repository.to_owned(),
                    tag => format!("{repository}:{tag}"),
                };
                vec![self.reference(&text)?.or_latest().canonical()]
            }
        };
        let platform = match request.platform.as_str() {
            "" => Platform::host(),
            text => Platform::parse(text).map_err(|error| Error::invalid(error.to_string()))?,
        };
        let config = super::instructions::apply(RunConfig::default(), &request.changes)?;
        let image = self.store.archive().import(
            reader,
            ImportOptions {
                names,
                config,
                message: request.message,
                architecture: platform.architecture,
                variant: platform.variant.unwrap_or_default(),
                created: jiff::Timestamp::now().to_string(),
            },
        )?;
        self.image_event("import", image.id.as_str(), image.id.as_str());
        Ok(image)
    }

    /// Writes a container's root file system as a tar, volumes not included. Blocks.
    pub fn export(&self, container: &Arc<Container>, writer: impl Write) -> Result<()> {
        let rw = self.store.snapshots().get(container.id.as_str())?;
        self.store
            .archive()
            .export(&rw.lower, Some(&rw.upper), &ExportOptions::default(), writer)?;
        // Removed meanwhile: what was read last was on its way out.
        self.store.snapshots().get(container.id.as_str())?;
        self.journal.record(
            EventKind::Container,
            "export",
            container.id.as_str(),
            container.event_attributes(),
        );
        Ok(())
    }
}
