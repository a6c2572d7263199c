//! Changes of the registry: the difference of two registries, and a change applied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rules::{self, RegistryFault};
use super::{Dataset, Habilitation, Participant, Procedure, Registry, RegistryFile};
use crate::{DatasetId, HabilitationId, ProcedureId, Siret};

/// One change, as its entry records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegistryChange {
    /// A participant is added or replaced.
    PutParticipant(Participant),
    /// A participant leaves.
    RemoveParticipant(Siret),
    /// A procedure is added or replaced.
    PutProcedure(Procedure),
    /// A procedure ends.
    RemoveProcedure(ProcedureId),
    /// A dataset is added or replaced.
    PutDataset(Dataset),
    /// A dataset ends.
    RemoveDataset(DatasetId),
    /// A habilitation is added or replaced.
    PutHabilitation(Habilitation),
    /// A habilitation ends.
    RemoveHabilitation(HabilitationId),
}

/// A change in words, for the person who is about to apply it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeSummary {
    /// `add`, `change` or `remove`.
    pub verb: &'static str,
    /// `participant`, `procedure`, `dataset` or `habilitation`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// For each field that changes `field: before → after`, or of a list a line for each item: `field: + item`, `- item`, `~ item` where
    /// it is another than before.
    pub fields: Vec<String>,
}

impl Registry {
    /// What turns this registry into `target`: removals last, so that nothing refers to what is gone.
    pub fn changes_to(&self, target: &Self) -> Vec<RegistryChange> {
        let mut changes = Vec::new();
        puts(&self.participants, &target.participants, RegistryChange::PutParticipant, &mut changes);
        puts(&self.procedures, &target.procedures, RegistryChange::PutProcedure, &mut changes);
        puts(&self.datasets, &target.datasets, RegistryChange::PutDataset, &mut changes);
        puts(&self.habilitations, &target.habilitations, RegistryChange::PutHabilitation, &mut changes);
        removals(&self.habilitations, &target.habilitations, RegistryChange::RemoveHabilitation, &mut changes);
        removals(&self.datasets, &target.datasets, RegistryChange::RemoveDataset, &mut changes);
        removals(&self.procedures, &target.procedures, RegistryChange::RemoveProcedure, &mut changes);
        removals(&self.participants, &target.participants, RegistryChange::RemoveParticipant, &mut changes);
        changes
    }

    /// The changes towards `file`, if neither it nor the step to it breaks a rule.
    pub fn plan(&self, file: RegistryFile) -> Result<Vec<RegistryChange>, RegistryFault> {
        let target = Self::from_file(file)?;
        rules::check_step(self, &target)?;
        Ok(self.changes_to(&target))
    }

    /// Refuses a change that would rewrite what persons were told. The other rules are about a whole registry, which the
    /// changes of one plan reach only with the last of them.
    pub fn check_change(&self, change: &RegistryChange) -> Result<(), RegistryFault> {
        rules::check_change(self, change)
    }

    /// Refuses `next` where it breaks a rule of registries, or where this one may not become it.
    ///
    /// # Errors
    /// [`RegistryFault`], the first.
    pub fn check_next(&self, next: &Self) -> Result<(), RegistryFault> {
        rules::check(&next.to_file())?;
        rules::check_step(self, next)
    }

    /// This registry after `change`.
    pub fn apply(&mut self, change: RegistryChange) {
        match change {
            RegistryChange::PutParticipant(participant) => {
                self.keys.retain(|_, (holder, _)| *holder != participant.siret);
                for key in &participant.keys {
                    self.keys.insert(key.fingerprint, (participant.siret, key.roles.clone()));
                }
                self.participants.insert(participant.siret, Arc::new(participant));
            }
            RegistryChange::RemoveParticipant(siret) => {
                self.keys.retain(|_, (holder, _)| *holder != siret);
                self.participants.remove(&siret);
            }
            RegistryChange::PutProcedure(procedure) => {
                let digests = procedure.notices.iter().map(|notice| (notice.version, notice.digests())).collect();
                self.notices.insert(procedure.id.clone(), digests);
                self.procedures.insert(procedure.id.clone(), Arc::new(procedure));
            }
            RegistryChange::RemoveProcedure(id) => {
                self.procedures.remove(&id);
                self.notices.remove(&id);
            }
            RegistryChange::PutDataset(dataset) => {
                self.datasets.insert(dataset.id.clone(), Arc::new(dataset));
            }
            RegistryChange::RemoveDataset(id) => {
                self.datasets.remove(&id);
            }
            RegistryChange::PutHabilitation(habilitation) => {
                self.forget_holder(&habilitation.id);
                self.held.entry(habilitation.participant).or_default().insert(habilitation.id.clone());
                self.habilitations.insert(habilitation.id.clone(), Arc::new(habilitation));
            }
            RegistryChange::RemoveHabilitation(id) => {
                self.forget_holder(&id);
                self.habilitations.remove(&id);
            }
        }
    }

    fn forget_holder(&mut self, id: &HabilitationId) {
        let Some(holder) = self.habilitations.get(id).map(|h| h.participant) else { return };
        if let Some(held) = self.held.get_mut(&holder) {
            held.remove(id);
            if held.is_empty() {
                self.held.remove(&holder);
            }
        }
    }

    /// `change` in words, seen from this registry.
    pub fn summary(&self, change: &RegistryChange) -> ChangeSummary {
        match change {
            RegistryChange::PutParticipant(p) => put("participant", p.siret, self.participants.get(&p.siret), p),
            RegistryChange::PutProcedure(p) => put("procedure", &p.id, self.procedures.get(&p.id), p),
            RegistryChange::PutDataset(d) => put("dataset", &d.id, self.datasets.get(&d.id), d),
            RegistryChange::PutHabilitation(h) => put("habilitation", &h.id, self.habilitations.get(&h.id), h),
            RegistryChange::RemoveParticipant(siret) => remove("participant", siret),
            RegistryChange::RemoveProcedure(id) => remove("procedure", id),
            RegistryChange::RemoveDataset(id) => remove("dataset", id),
            RegistryChange::RemoveHabilitation(id) => remove("habilitation", id),
        }
    }
}

fn puts<K: Ord, V: PartialEq + Clone>(
    before: &BTreeMap<K, Arc<V>>,
    after: &BTreeMap<K, Arc<V>>,
    make: impl Fn(V) -> RegistryChange,
    changes: &mut Vec<RegistryChange>,
) {
    let changed = after.iter().filter(|(key, value)| before.get(key) != Some(value));
    changes.extend(changed.map(|(_, value)| make((**value).clone())));
}

fn removals<K: Ord + Clone, V>(
    before: &BTreeMap<K, Arc<V>>,
    after: &BTreeMap<K, Arc<V>>,
    make: impl Fn(K) -> RegistryChange,
    changes: &mut Vec<RegistryChange>,
) {
    changes.extend(before.keys().filter(|key| !after.contains_key(key)).cloned().map(make));
}

fn remove(kind: &'static str, name: impl ToString) -> ChangeSummary {
    ChangeSummary { verb: "remove", kind, name: name.to_string(), fields: Vec::new() }
}

fn put<T: Serialize>(kind: &'static str, name: impl ToString, before: Option<&Arc<T>>, after: &T) -> ChangeSummary {
    let name = name.to_string();
    let Some(before) = before else { return ChangeSummary { verb: "add", kind, name, fields: Vec::new() } };
    let object = |value: &T| match serde_json::to_value(value) {
        Ok(Value::Object(map)) => map,
        Ok(_) | Err(_) => serde_json::Map::new(),
    };
    let (before, after) = (object(before), object(after));
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changed = names.into_iter().filter(|field| before.get(*field) != after.get(*field));
    let fields = changed.flat_map(|field| differences(field, before.get(field), after.get(field))).collect();
    ChangeSummary { verb: "change", kind, name, fields }
}

/// What differs in one field, in lines that a person reads.
fn differences(field: &str, before: Option<&Value>, after: Option<&Value>) -> Vec<String> {
    let items = |value: Option<&Value>| match value {
        Some(Value::Array(items)) => Some(items.iter().map(|item| (item_name(item), item.clone())).collect()),
        Some(_) => None,
        None => Some(BTreeMap::new()),
    };
    let (Some(before_items), Some(after_items)) = (items(before), items(after)) else {
        return vec![format!("{field}: {} → {}", short(before), short(after))];
    };
    let (before, after): (BTreeMap<String, Value>, BTreeMap<String, Value>) = (before_items, after_items);
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let sign = |name: &str| match (before.get(name), after.get(name)) {
        (None, _) => Some("+"),
        (_, None) => Some("-"),
        (before, after) => (before != after).then_some("~"),
    };
    let lines: Vec<_> = names.into_iter().filter_map(|name| Some(format!("{field}: {} {name}", sign(name)?))).collect();
    // The same items in another order.
    if lines.is_empty() { vec![format!("{field}: in another order")] } else { lines }
}

/// By which a person knows an item of a list.
fn item_name(item: &Value) -> String {
    let text =
        |member: &str| item.get(member).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    let named = ["fingerprint", "version", "name"].into_iter().find_map(text);
    let name = named.unwrap_or_else(|| item.as_str().map_or_else(|| short(Some(item)), str::to_owned));
    match text("label").filter(|label| !label.is_empty()) {
        Some(label) => format!("{name} ({label})"),
        None => name,
    }
}

/// A value on a part of a line.
fn short(value: Option<&Value>) -> String {
    const MOST: usize = 60;
    let text = value.map_or_else(|| "none".to_owned(), Value::to_string);
    if text.chars().count() <= MOST {
        return text;
    }
    let begin: String = text.chars().take(MOST).collect();
    format!("{begin}…")
}
