//! Comparing records with the machine, an extension.

use agent_api::extension::{CheckReport, Difference};
use agent_engine::Engine;
use axum::extract::State;

use crate::error::ApiResult;
use crate::reply;
use crate::request::Query;

/// `GET /system/check`: looks, and changes nothing.
pub async fn look(State(engine): State<Engine>) -> ApiResult {
    report(&engine, false).await
}

/// `POST /system/check?repair=1`: repairs what can be.
pub async fn repair(State(engine): State<Engine>, query: Query) -> ApiResult {
    report(&engine, query.flag("repair")).await
}

async fn report(engine: &Engine, repair: bool) -> ApiResult {
    let outcomes = engine.check(repair).await?;
    let differences = outcomes
        .into_iter()
        .map(|one| Difference {
            kind: one.finding.kind.as_str().to_owned(),
            side: one.finding.side.as_str().to_owned(),
            name: one.finding.name,
            note: one.finding.note,
            repairable: one.repairable,
            repaired: one.repaired,
            error: one.error.unwrap_or_default(),
        })
        .collect();
    Ok(reply::ok(&CheckReport { differences }))
}
