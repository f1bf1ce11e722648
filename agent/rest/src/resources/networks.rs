//! Networks: the default ones, to look at.

use std::collections::BTreeMap;

use agent_api::StringMap;
use agent_api::network::{EndpointResource, Ipam, IpamConfig, IpamStatus, Network, NetworkStatus, SubnetStatus};
use agent_engine::Engine;
use agent_engine::filters::Filters;
use agent_engine::view::NetworkView;
use axum::extract::State;

use super::inspect::{endpoint_id, network_mode};
use crate::error::{ApiError, ApiResult};
use crate::reply;
use crate::request::{Query, Target};
use crate::version::ApiVersion;

pub async fn list(State(engine): State<Engine>, query: Query) -> ApiResult {
    let filters = query.filters()?;
    filters.only(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
    let (dangling, names) = (filters.flag("dangling")?, filters.names());
    for kind in filters.get("type") {
        if !matches!(kind, "builtin" | "custom") {
            return Err(ApiError::bad(format!("invalid filter 'type={kind}'")));
        }
    }
    let found = engine.networks().into_iter().filter(|network| {
        // The default networks are never dangling: they cannot be removed.
        dangling != Some(true)
            && filters.any("driver", |text| network.driver == text)
            && filters.any("id", |text| network.id.starts_with(text))
            && names.fit(network.name)
            && filters.any("scope", |text| text == "local")
            && filters.any("type", |text| text == "builtin")
            && filters.labels(&BTreeMap::new())
    });
    Ok(reply::ok(&found.map(|network| wire(&network)).collect::<Vec<_>>()))
}

pub async fn inspect(State(engine): State<Engine>, version: ApiVersion, Target(id): Target, query: Query) -> ApiResult {
    if !matches!(query.get("scope"), "" | "local") {
        return Err(ApiError::new(
            http::StatusCode::NOT_FOUND,
            format!("network {id} not found"),
        ));
    }
    let network = engine.network(&id)?;
    let mut shown = wire(&network);
    engine.list(false, None, &Filters::default(), |record, net| {
        if network_mode(&record.host.network_mode) != network.name {
            return;
        }
        let endpoint = net.endpoint.as_ref();
        let resource = EndpointResource {
            name: record.name.clone(),
            endpoint_id: endpoint_id(&network.id, record.id.as_str()),
            mac_address: endpoint.map(|own| own.mac.to_string()).unwrap_or_default(),
            ipv4_address: endpoint
                .map(|own| format!("{}/{}", own.ip, own.prefix_len))
                .unwrap_or_default(),
            ipv6_address: String::new(),
        };
        shown.containers.insert(record.id.to_string(), resource);
    })?;
    if version.since(52) {
        shown.status = Some(NetworkStatus {
            ipam: addresses(&network, shown.containers.len()),
        });
    }
    Ok(reply::ok(&shown))
}

/// Use of the bridge's subnet: its own addresses and one for each container.
fn addresses(network: &NetworkView, containers: usize) -> IpamStatus {
    let mut subnets = BTreeMap::new();
    if let Some(bridge) = &network.bridge {
        let text = bridge.subnet.to_string();
        let prefix: u32 = text.rsplit('/').next().and_then(|part| part.parse().ok()).unwrap_or(32);
        let all = 1u64 << 32u32.saturating_sub(prefix);
        // Network address, broadcast address, gateway.
        let used = containers as u64 + 3;
        let status = SubnetStatus {
            ips_in_use: used,
            dynamic_ips_available: all.saturating_sub(used),
        };
        subnets.insert(text, status);
    }
    IpamStatus { subnets }
}

pub async fn remove(State(engine): State<Engine>, Target(id): Target) -> ApiResult {
    let network = engine.network(&id)?;
    Err(ApiError::new(
        http::StatusCode::FORBIDDEN,
        format!("{} is a pre-defined network and cannot be removed", network.name),
    ))
}

fn wire(network: &NetworkView) -> Network {
    let mut options = StringMap::new();
    let mut ipam = Ipam {
        driver: "default".to_owned(),
        ..Ipam::default()
    };
    if let Some(bridge) = &network.bridge {
        ipam.config = Some(vec![IpamConfig {
            subnet: bridge.subnet.to_string(),
            gateway: bridge.gateway.to_string(),
            ..IpamConfig::default()
        }]);
        for (key, value) in [
            ("default_bridge", "true".to_owned()),
            ("enable_icc", "true".to_owned()),
            ("enable_ip_masquerade", bridge.masquerade.to_string()),
            ("host_binding_ipv4", "0.0.0.0".to_owned()),
            ("name", bridge.bridge.clone()),
        ] {
            options.insert(format!("com.docker.network.bridge.{key}"), value);
        }
        options.insert("com.docker.network.driver.mtu".to_owned(), bridge.mtu.to_string());
    }
    Network {
        name: network.name.to_owned(),
        id: network.id.clone(),
        created: network.created.into(),
        scope: "local".to_owned(),
        driver: network.driver.to_owned(),
        enable_ipv4: true,
        ipam,
        options,
        ..Network::default()
    }
}
