//! Pull of a name without a tag through the API: every tag that the registry has for it, one after the other.
//!
//! As in dockerd the first tag that cannot be had ends the pull; those before it stay. Layers of one tag come side by side,
//! within the turns of the node, so that a repository of a thousand tags asks for no more at once than one image.

use agent_registry::{Credentials, Platform, Reference};
use tokio::sync::mpsc;

use super::pull::{For, Pull, PullEvent, Pulled};
use crate::Engine;
use crate::error::{Error, Result};

impl Engine {
    /// Pulls all tags of the name, or the one that it has; the receiver ends with [`PullEvent::Done`], which for all tags
    /// holds the last one's image and the bare name.
    pub fn pull_all(
        &self,
        reference: Reference,
        platform: Option<Platform>,
        credentials: Option<Credentials>,
    ) -> mpsc::Receiver<PullEvent> {
        self.begin_pull(reference, platform, credentials, For::Users)
    }
}

impl Pull {
    pub(super) async fn run_all(&self) -> Result<Pulled> {
        let live = self.engine.live();
        let tags = live.registry.tags(&self.reference, self.credentials.as_ref()).await?;
        let mut all: Option<Pulled> = None;
        for tag in tags {
            let reference = self.reference.with_tag(&tag);
            let one = Pull {
                reference: reference.map_err(|error| Error::invalid(error.to_string()))?,
                ..self.clone()
            };
            let pulled = one.run().await?;
            all = Some(Pulled {
                name: self.reference.familiar_name(),
                new: pulled.new || all.is_some_and(|before| before.new),
                image: pulled.image,
            });
        }
        all.ok_or_else(|| Error::NoTags(self.reference.familiar_name()))
    }
}
