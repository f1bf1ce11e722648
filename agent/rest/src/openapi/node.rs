//! Images, volumes, networks, and the daemon itself.

use agent_api::auth::{AuthConfig, AuthResponse};
use agent_api::event::Event;
use agent_api::extension::CheckReport;
use agent_api::image::{self, DeleteItem, HistoryItem, SearchResult};
use agent_api::message::Message;
use agent_api::network::{Network, NetworksPruned};
use agent_api::system::{CachePruned, DiskUsage, Info, Version};
use agent_api::volume::{self, Volume, VolumeCreate, VolumeList};
use agent_engine::filters::EVENT_KEYS;
use agent_engine::image::list::LIST_KEYS;
use agent_engine::image::registries::SEARCH_KEYS;

use super::operation::{
    Operation, delete, filters, flag, get, head, list, moment, number, one_of, platform, platform_json, post,
    registry_auth, some_of, text,
};
use crate::records::{JSON_LINES, JSON_SEQ, ND_JSON};
use crate::reply::JSON;
use crate::resources::absent::PLUGIN_KEYS;

const TAR: &[&str] = &["application/x-tar"];
const PLAIN: &[&str] = &["text/plain"];

pub fn operations() -> Vec<Operation> {
    let mut all = system();
    all.extend(images());
    all.extend(volumes());
    all.extend(networks());
    all
}

fn system() -> Vec<Operation> {
    vec![
        get("/_ping", "Ask whether the daemon answers").bytes(PLAIN),
        head("/_ping", "Ask whether the daemon answers").empty(200),
        get("/version", "Versions").json::<Version>(200),
        get("/info", "The daemon and its machine").json::<Info>(200),
        get("/openapi.json", "This document")
            .json::<serde_json::Map<String, serde_json::Value>>(200)
            .extension(),
        get("/events", "What happens")
            .takes([moment("since"), moment("until"), filters(&EVENT_KEYS)])
            .records::<Event>(&[JSON_LINES, ND_JSON, JSON_SEQ, JSON]),
        get("/system/df", "Disk space by kind of object")
            .takes([
                some_of("type", &["container", "image", "volume", "build-cache"]),
                flag("verbose"),
            ])
            .json::<DiskUsage>(200),
        get("/system/check", "Compare records with the machine")
            .json::<CheckReport>(200)
            .extension(),
        post("/system/check", "Compare records with the machine, and repair")
            .takes([flag("repair")])
            .json::<CheckReport>(200)
            .extension(),
        post("/auth", "Log in to a registry")
            .body::<AuthConfig>()
            .json::<AuthResponse>(200),
        get("/plugins", "List plugins")
            .takes([filters(&PLUGIN_KEYS)])
            .json::<Vec<serde_json::Value>>(200),
        post("/build/prune", "Empty the build cache").json::<CachePruned>(200),
    ]
}

fn images() -> Vec<Operation> {
    vec![
        get("/images/json", "List images")
            .takes([
                flag("all"),
                filters(&LIST_KEYS),
                flag("shared-size"),
                flag("manifests"),
                flag("identity"),
            ])
            .json::<Vec<image::Summary>>(200),
        post("/images/create", "Pull or import an image")
            .takes([
                text("fromImage"),
                text("fromSrc"),
                text("repo"),
                text("tag"),
                text("message"),
                list("changes"),
                platform("platform"),
                registry_auth(),
            ])
            .records::<Message>(&[JSON]),
        post("/images/load", "Load images from an archive")
            .takes([flag("quiet"), list("platform")])
            .archive()
            .records::<Message>(&[JSON]),
        get("/images/get", "Save images")
            .takes([list("names"), platform_json("platform")])
            .bytes(TAR),
        post("/images/prune", "Remove images that are not used")
            .takes([filters(&["label", "label!", "until", "dangling"])])
            .json::<image::PruneReport>(200),
        get("/images/search", "Search a registry")
            .takes([
                text("term").required(),
                number("limit"),
                filters(&SEARCH_KEYS),
                registry_auth(),
            ])
            .json::<Vec<SearchResult>>(200),
        get("/images/{name}/json", "Inspect an image")
            .takes([flag("manifests"), platform_json("platform")])
            .json::<image::Inspect>(200),
        get("/images/{name}/history", "How an image was made")
            .takes([platform_json("platform")])
            .json::<Vec<HistoryItem>>(200),
        get("/images/{name}/get", "Save an image")
            .takes([platform_json("platform")])
            .bytes(TAR),
        post("/images/{name}/tag", "Name an image")
            .takes([text("repo").required(), text("tag")])
            .empty(201),
        delete("/images/{name}", "Remove an image or a name of it")
            .takes([flag("force"), flag("noprune"), list("platforms")])
            .json::<Vec<DeleteItem>>(200),
    ]
}

fn volumes() -> Vec<Operation> {
    vec![
        get("/volumes", "List volumes")
            .takes([filters(&["dangling", "driver", "label", "name"])])
            .json::<VolumeList>(200),
        post("/volumes/create", "Create a volume")
            .body::<VolumeCreate>()
            .json::<Volume>(201),
        post("/volumes/prune", "Remove volumes that are not used")
            .takes([filters(&["label", "label!", "all"])])
            .json::<volume::PruneReport>(200),
        get("/volumes/{name}", "Inspect a volume").json::<Volume>(200),
        delete("/volumes/{name}", "Remove a volume")
            .takes([flag("force")])
            .empty(204),
        get("/volumes/{name}/export", "Read a volume's content")
            .bytes(TAR)
            .extension(),
        post("/volumes/{name}/import", "Make a volume of an archive")
            .takes([list("label")])
            .archive()
            .json::<Volume>(201)
            .extension(),
        post("/volumes/{name}/clone", "Copy a volume")
            .takes([text("name").required()])
            .json::<Volume>(201)
            .extension(),
        post("/volumes/{name}/rename", "Rename a volume")
            .takes([text("name").required()])
            .empty(204)
            .extension(),
    ]
}

fn networks() -> Vec<Operation> {
    let keys = ["dangling", "driver", "id", "label", "name", "scope", "type"];
    vec![
        get("/networks", "List networks")
            .takes([filters(&keys)])
            .json::<Vec<Network>>(200),
        get("/networks/{id}", "Inspect a network")
            .takes([one_of("scope", &["local"])])
            .json::<Network>(200),
        delete("/networks/{id}", "Remove a network").empty(204),
        post("/networks/prune", "Remove networks that are not used").json::<NetworksPruned>(200),
    ]
}
