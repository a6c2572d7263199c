//! The allow table: every RPC, who may call it, and how its deadline is treated. What is not in it does not exist.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::FileDescriptorSet;
use unefois_consent::registry::Role;

/// Whether a call must say how long it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadlinePolicy {
    /// It must: the deadline bounds what is asked of a source.
    Required,
    /// The longest one stands in.
    Optional,
}

/// Who may call an RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Every client whose certificate a configured CA issued.
    Certificate,
    /// Every enrolled key with one of these roles, the first that the key has.
    Roles(&'static [Role]),
}

/// One line of the table.
#[derive(Debug)]
pub struct Rule {
    /// The HTTP/2 path.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    /// Its deadline.
    pub deadline: DeadlinePolicy,
}

const fn rule(path: &'static str, access: Access) -> Rule {
    Rule { path, access, deadline: DeadlinePolicy::Optional }
}

const EXCHANGE: Access = Access::Roles(&[Role::Exchange]);
const REGISTRY: Access = Access::Roles(&[Role::Registry]);
const PORTAL: Access = Access::Roles(&[Role::Portal]);
const AUDIT: Access = Access::Roles(&[Role::Audit]);
const ENROLLED: Access = Access::Roles(&[Role::Exchange, Role::Audit, Role::Registry, Role::Portal]);

/// The table.
pub const RULES: &[Rule] = &[
    Rule { path: "/unefois.v1.ExchangeService/Exchange", access: EXCHANGE, deadline: DeadlinePolicy::Required },
    rule("/unefois.v1.ConsentService/RequestConsent", EXCHANGE),
    rule("/unefois.v1.ConsentService/RecordConsent", EXCHANGE),
    rule("/unefois.v1.ConsentService/RenewConsent", EXCHANGE),
    rule("/unefois.v1.ConsentService/WithdrawConsent", EXCHANGE),
    rule("/unefois.v1.ConsentService/DecideConsent", Access::Roles(&[Role::Exchange, Role::Registry])),
    rule("/unefois.v1.ConsentService/GetConsent", EXCHANGE),
    rule("/unefois.v1.ConsentService/ListConsents", EXCHANGE),
    rule("/unefois.v1.ConsentService/ExportConsent", EXCHANGE),
    rule("/unefois.v1.ConsentService/WatchConsents", EXCHANGE),
    rule("/unefois.v1.ConsentService/ListWebhooks", EXCHANGE),
    rule("/unefois.v1.ConsentService/ReplayDeadLetters", EXCHANGE),
    rule("/unefois.v1.ConsentService/RecordObjection", EXCHANGE),
    rule("/unefois.v1.ConsentService/LiftObjection", EXCHANGE),
    rule("/unefois.v1.ConsentService/ListObjections", EXCHANGE),
    rule("/unefois.v1.ConsentService/RecordMandate", EXCHANGE),
    rule("/unefois.v1.ConsentService/EndMandate", EXCHANGE),
    rule("/unefois.v1.ConsentService/GetMandate", EXCHANGE),
    rule("/unefois.v1.CitizenService/ListMyConsents", PORTAL),
    rule("/unefois.v1.CitizenService/GetMyConsent", PORTAL),
    rule("/unefois.v1.CitizenService/GrantMyConsent", PORTAL),
    rule("/unefois.v1.CitizenService/RenewMyConsent", PORTAL),
    rule("/unefois.v1.CitizenService/DecideMyConsent", PORTAL),
    rule("/unefois.v1.CitizenService/SetMyObjection", PORTAL),
    rule("/unefois.v1.CitizenService/ListMyObjections", PORTAL),
    rule("/unefois.v1.CitizenService/ListMyMandates", PORTAL),
    rule("/unefois.v1.CitizenService/EndMyMandate", PORTAL),
    rule("/unefois.v1.CitizenService/ListMyExchanges", PORTAL),
    rule("/unefois.v1.CitizenService/GetMyReceipt", PORTAL),
    rule("/unefois.v1.CitizenService/ExportMine", PORTAL),
    rule("/unefois.v1.RegistryService/ApplyRegistry", REGISTRY),
    rule("/unefois.v1.RegistryService/GetRegistry", REGISTRY),
    rule("/unefois.v1.RegistryService/ListDatasets", ENROLLED),
    rule("/unefois.v1.RegistryService/ListHabilitations", ENROLLED),
    rule("/unefois.v1.AuditService/ListEntries", AUDIT),
    rule("/unefois.v1.AuditService/GetReceipt", Access::Roles(&[Role::Audit, Role::Exchange])),
    rule("/unefois.v1.AuditService/GetCheckpoint", ENROLLED),
    rule("/unefois.v1.AuditService/GetInclusionProof", ENROLLED),
    rule("/unefois.v1.AuditService/GetConsistencyProof", ENROLLED),
    rule("/grpc.health.v1.Health/Check", Access::Certificate),
    rule("/grpc.health.v1.Health/Watch", Access::Certificate),
    rule("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", ENROLLED),
    rule("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", ENROLLED),
];

/// The rule of a path.
pub fn find(path: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.path == path)
}

/// Every RPC of the descriptor sets, as paths.
fn paths(descriptors: &[&[u8]]) -> Result<BTreeSet<String>, prost::DecodeError> {
    let mut paths = BTreeSet::new();
    for bytes in descriptors {
        for file in FileDescriptorSet::decode(*bytes)?.file {
            for service in &file.service {
                let methods = service.method.iter();
                paths.extend(methods.map(|m| format!("/{}.{}/{}", file.package(), service.name(), m.name())));
            }
        }
    }
    Ok(paths)
}

/// Fails where an RPC is served without a rule, or a rule names no RPC.
///
/// INVARIANT: called before anything listens.
pub fn check_complete() -> Result<(), String> {
    let served = paths(&[
        unefois_proto::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ])
    .map_err(|error| format!("the contract cannot be read: {error}"))?;
    let ruled: BTreeSet<String> = RULES.iter().map(|rule| rule.path.to_owned()).collect();
    let missing: Vec<_> = served.symmetric_difference(&ruled).cloned().collect();
    if missing.is_empty() && ruled.len() == RULES.len() {
        Ok(())
    } else {
        Err(format!("the allow table and the contract differ: {}", missing.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rpc_is_in_the_allow_table() {
        check_complete().unwrap();
    }

    #[test]
    fn what_is_not_in_the_table_does_not_exist() {
        assert!(find("/unefois.v1.ExchangeService/Export").is_none());
        assert!(find("").is_none());
    }
}
