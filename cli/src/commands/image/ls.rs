//! `images`: the list of images.

use client::Filters;
use client::api::image::Summary;
use serde_json::json;

use super::short;
use crate::cli::Cli;
use crate::failure::{Failure, Result};
use crate::format::{List, Row};
use crate::output;
use crate::units;

/// List images.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show all images, also those without a name that others are based on
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Only some: reference=…, dangling=true, label=…, before=…, since=…
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// table [TEMPLATE], json, or a template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Do not shorten
    #[arg(long)]
    no_trunc: bool,
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
    /// Show the platforms of each image below it
    #[arg(long, conflicts_with_all = ["digests", "format", "no_trunc", "quiet"])]
    tree: bool,
    /// Only images of this name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

const NONE: &str = "<none>";

pub async fn run(cli: &Cli, args: Args) -> Result {
    let mut filters = Filters::new();
    for text in &args.filter {
        filters.parse(text).map_err(Failure::new)?;
    }
    if let Some(name) = &args.name {
        filters.add("reference", name.clone());
    }
    if args.tree {
        return super::tree::print(cli, args.all, &filters).await;
    }
    let format = args
        .format
        .as_deref()
        .or(cli.config()?.images_format.as_deref().filter(|_| !args.quiet));
    let images = cli.client()?.images(args.all, false, &filters).await?;
    let digests = args.digests || format.is_some_and(|format| format.contains(".Digest"));
    if args.quiet && args.format.is_none() {
        for image in &images {
            // Once per name, as the table has it.
            for _ in names(image, args.digests) {
                output::line(short(&image.id, args.no_trunc));
            }
        }
        return Ok(());
    }
    let mut rows = Vec::new();
    for image in &images {
        for (repository, tag, digest) in names(image, digests) {
            rows.push(row(image, &repository, &tag, &digest, args.no_trunc));
        }
    }
    let list = List {
        format,
        table: if args.digests {
            "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
        } else {
            "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
        },
        headings: &[
            ("ID", "IMAGE ID"),
            ("Repository", "REPOSITORY"),
            ("Tag", "TAG"),
            ("Digest", "DIGEST"),
            ("CreatedSince", "CREATED"),
            ("CreatedAt", "CREATED AT"),
            ("Size", "SIZE"),
            ("Containers", "CONTAINERS"),
            ("VirtualSize", "SIZE"),
            ("SharedSize", "SHARED SIZE"),
            ("UniqueSize", "UNIQUE SIZE"),
        ],
    };
    list.print(&rows)
}

/// Repository, tag and digest of each row that an image has.
fn names(image: &Summary, digests: bool) -> Vec<(String, String, String)> {
    let split = |name: &str| match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository.to_owned(), tag.to_owned()),
        _ => (name.to_owned(), NONE.to_owned()),
    };
    let known: Vec<(&str, &str)> = image
        .repo_digests
        .iter()
        .filter_map(|name| name.split_once('@'))
        .collect();
    let mut rows = Vec::new();
    for name in image.repo_tags.iter().filter(|name| *name != "<none>:<none>") {
        let (repository, tag) = split(name);
        let own: Vec<&str> = known
            .iter()
            .filter(|(of, _)| *of == repository)
            .map(|(_, digest)| *digest)
            .collect();
        match (digests, own.as_slice()) {
            (true, [_, ..]) => rows.extend(own.iter().map(|d| (repository.clone(), tag.clone(), (*d).to_owned()))),
            _ => rows.push((repository, tag, NONE.to_owned())),
        }
    }
    // Known only by what was pulled: the name without a tag.
    if rows.is_empty() {
        let mut repositories: Vec<(String, String)> = known
            .iter()
            .map(|(of, digest)| ((*of).to_owned(), (*digest).to_owned()))
            .collect();
        repositories.dedup_by(|a, b| !digests && a.0 == b.0);
        rows.extend(
            repositories
                .into_iter()
                .map(|(of, digest)| (of, NONE.to_owned(), if digests { digest } else { NONE.to_owned() })),
        );
    }
    if rows.is_empty() {
        rows.push((NONE.to_owned(), NONE.to_owned(), NONE.to_owned()));
    }
    rows
}

fn row(image: &Summary, repository: &str, tag: &str, digest: &str, whole: bool) -> Row {
    let unknown = |value: i64| {
        if value < 0 {
            "N/A".to_owned()
        } else {
            units::size(value, 3)
        }
    };
    Row::new(vec![
        ("ID", json!(short(&image.id, whole))),
        ("Repository", json!(repository)),
        ("Tag", json!(tag)),
        ("Digest", json!(digest)),
        ("CreatedSince", json!(units::ago(image.created))),
        ("CreatedAt", json!(units::local_time(image.created))),
        ("Size", json!(units::size(image.size, 3))),
        // Counted only in the disk usage, as in docker.
        ("Containers", json!("N/A")),
        ("VirtualSize", json!(units::size(image.size, 4))),
        ("SharedSize", json!(unknown(image.shared_size))),
        (
            "UniqueSize",
            json!(unknown(if image.shared_size < 0 {
                -1
            } else {
                image.size - image.shared_size
            })),
        ),
    ])
}
