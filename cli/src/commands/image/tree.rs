//! `images --tree`: each image with the platforms that it has.

use client::Filters;
use client::api::image::{ManifestSummary, Summary};

use super::short;
use crate::cli::Cli;
use crate::failure::Result;
use crate::output;
use crate::units;

const HEADINGS: [&str; 5] = ["IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA"];

/// Prints the tree.
pub async fn print(cli: &Cli, all: bool, filters: &Filters) -> Result {
    let images = cli.client()?.images(all, true, filters).await?;
    for line in lines(&images) {
        output::line(line);
    }
    Ok(())
}

fn lines(images: &[Summary]) -> Vec<String> {
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    for image in images {
        let platforms: Vec<&ManifestSummary> = image
            .manifests
            .iter()
            .flatten()
            .filter(|manifest| manifest.kind == "image")
            .collect();
        let used = |manifest: &&ManifestSummary| {
            let data = manifest.image_data.as_ref();
            data.is_some_and(|data| !data.containers.is_empty())
        };
        let content: i64 = platforms.iter().map(|manifest| manifest.size.content).sum();
        let mut names = image.repo_tags.iter().map(String::as_str).collect::<Vec<_>>();
        if names.is_empty() {
            names.push("<untagged>");
        }
        for name in &names {
            rows.push(row(
                (*name).to_owned(),
                &image.id,
                image.size,
                content,
                image.containers > 0 || platforms.iter().any(used),
            ));
        }
        for (at, manifest) in platforms.iter().enumerate() {
            let branch = if at + 1 == platforms.len() { "└─" } else { "├─" };
            let platform = manifest.image_data.as_ref().map(|data| &data.platform);
            let words = platform.map(|platform| {
                let parts = [&platform.os, &platform.architecture, &platform.variant];
                let parts: Vec<&str> = parts
                    .into_iter()
                    .map(String::as_str)
                    .filter(|part| !part.is_empty())
                    .collect();
                parts.join("/")
            });
            rows.push(row(
                format!("{branch} {}", words.unwrap_or_default()),
                &manifest.id,
                manifest.size.total,
                manifest.size.content,
                used(manifest),
            ));
        }
    }
    let widths: Vec<usize> = (0..HEADINGS.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    rows.iter()
        .map(|row| {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            cells.join("   ").trim_end().to_owned()
        })
        .collect()
}

/// `U` stands for "in use", as in docker's tree.
fn row(name: String, id: &str, size: i64, content: i64, used: bool) -> [String; 5] {
    let used = if used { "U" } else { "" };
    [
        name,
        short(id, false),
        units::size(size, 3),
        units::size(content, 3),
        used.to_owned(),
    ]
}
