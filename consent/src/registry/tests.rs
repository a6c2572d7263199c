use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use super::*;
use crate::testing::{DEPARTMENT, OPERATOR_KEY, TOWN, TOWN_KEY, p, registry_file};

/// What the rules say, and what they say it of.
type Wrong<T> = (&'static str, fn(&mut T));

fn registry() -> Registry {
    Registry::from_file(registry_file()).unwrap()
}

/// What the rules say of the good file after `spoil`.
fn fault(spoil: impl FnOnce(&mut RegistryFile)) -> String {
    let mut file = registry_file();
    spoil(&mut file);
    Registry::from_file(file).unwrap_err().to_string()
}

#[test]
fn a_registry_comes_back_from_its_file_as_it_was() {
    let mut by_name = registry_file();
    by_name.participants.reverse();
    by_name.datasets.reverse();
    assert_eq!(registry().to_file(), by_name);
    assert_eq!(Registry::from_file(by_name).unwrap(), registry());
    assert_eq!(Registry::from_file(RegistryFile::default()).unwrap(), Registry::default());
    let file: RegistryFile = serde_json::from_str("{}").unwrap();
    assert_eq!(file, RegistryFile::default());
    assert!(serde_json::from_str::<RegistryFile>(r#"{"participant": []}"#).is_err(), "an unknown key");
}

#[test]
fn nothing_is_listed_twice() {
    let twice: [Wrong<RegistryFile>; 7] = [
        ("participant 99999999900017: is listed twice", |f| f.participants.push(f.participants[0].clone())),
        ("key 0101010101010101010101010101010101010101010101010101010101010101: is listed twice", |f| {
            let key = f.participants[0].keys[0].clone();
            f.participants[1].keys.push(key);
        }),
        ("procedure cantine: is listed twice", |f| f.procedures.push(f.procedures[0].clone())),
        ("procedure cantine, notice 1: is listed twice", |f| {
            let notice = f.procedures[0].notices[0].clone();
            f.procedures[0].notices.push(notice);
        }),
        ("dataset ccas.aides: is listed twice", |f| f.datasets.push(f.datasets[1].clone())),
        ("dataset ccas.aides, attribute montant: is listed twice", |f| {
            let attribute = f.datasets[1].attributes[0].clone();
            f.datasets[1].attributes.push(attribute);
        }),
        ("habilitation ville-cantine: is listed twice", |f| f.habilitations.push(f.habilitations[1].clone())),
    ];
    for (message, repeat) in twice {
        assert_eq!(fault(repeat), message);
    }
}

#[test]
fn a_participant_has_a_name() {
    assert_eq!(fault(|f| f.participants[0].name = " ".to_owned()), "participant 99999999900017: needs a name");
}

#[test]
fn a_procedure_informs_persons_in_two_languages() {
    let none = "procedure cantine: needs a notice: persons must be informed (CRPA L114-8)";
    assert_eq!(fault(|f| f.procedures[0].notices.clear()), none);
    let form = "procedure cantine: each notice has a version from 1 and a text in French and in English";
    let wrong: [fn(&mut Notice); 3] = [|n| n.version = 0, |n| n.fr.clear(), |n| n.en = "\n".to_owned()];
    for spoil in wrong {
        assert_eq!(fault(|f| spoil(&mut f.procedures[0].notices[0])), form);
    }
    let days = "procedure cantine: consent_max_days and notice_max_age_days are at least 1";
    assert_eq!(fault(|f| f.procedures[0].consent_max_days = 0), days);
    assert_eq!(fault(|f| f.procedures[0].notice_max_age_days = 0), days);
    let longest =
        "procedure cantine: consent_max_days is at most 1095: that a consent was used is remembered for 36 months";
    assert_eq!(fault(|f| f.procedures[0].consent_max_days = 1_096), longest);
    let months = "procedure cantine: trace_months is from 1 to 36";
    assert_eq!(fault(|f| f.procedures[0].trace_months = 0), months);
    assert_eq!(fault(|f| f.procedures[0].trace_months = 37), months);
}

#[test]
fn medical_and_defence_datasets_are_refused() {
    let message = "dataset ccas.aides: medical and defence secrets may not be exchanged (CRPA R114-9-7)";
    for class in [DatasetClass::Medical, DatasetClass::Defence] {
        assert_eq!(fault(|f| f.datasets[1].class = class), message);
    }
}

#[test]
fn a_dataset_has_a_source_that_takes_part_and_attributes_with_names() {
    let source = "dataset ccas.aides: its source 13002526500013 is not a participant";
    assert_eq!(fault(|f| f.datasets[1].source = p("13002526500013")), source);
    assert_eq!(fault(|f| f.datasets[1].attributes.clear()), "dataset ccas.aides: needs an attribute");
    let names = "dataset ccas.aides: names of attributes are of a-z, 0-9, '_' and '-'";
    for bad in ["", "a.b", "Montant", "montant net", "é", &"a".repeat(97)] {
        assert_eq!(fault(|f| f.datasets[1].attributes[0].name = bad.to_owned()), names, "{bad}");
    }
}

#[test]
fn a_habilitation_names_only_what_exists_and_is_whole() {
    let whole = "habilitation ville-cantine: needs a procedure, an attribute, a ground and a recipient";
    let basis = "habilitation ville-cantine: needs a legal basis and a DPO contact";
    let wrong: [Wrong<Habilitation>; 10] = [
        ("habilitation ville-cantine: its holder 13002526500013 is not a participant", |h| {
            h.participant = p("13002526500013");
        }),
        (basis, |h| h.legal_basis.clear()),
        (basis, |h| h.dpo_contact = " ".to_owned()),
        ("habilitation ville-cantine: procedure no-such does not exist", |h| h.procedures = [p("no-such")].into()),
        ("habilitation ville-cantine: attribute ccas.aides.no-such does not exist", |h| {
            h.attributes.insert(p("ccas.aides.no-such"));
        }),
        (whole, |h| h.procedures.clear()),
        (whole, |h| h.attributes.clear()),
        (whole, |h| h.grounds.clear()),
        (whole, |h| h.recipients.clear()),
        ("habilitation ville-cantine: valid_from is before valid_until", |h| h.valid_from = h.valid_until),
    ];
    for (message, spoil) in wrong {
        assert_eq!(fault(|f| spoil(&mut f.habilitations[1])), message);
    }
}

#[test]
fn data_is_kept_ten_years_at_most_and_one_where_collected_proactively() {
    let kept = |months: u16, grounds: &[GroundKind]| {
        let mut file = registry_file();
        file.habilitations[1].retention_months = months;
        file.habilitations[1].grounds = grounds.iter().copied().collect();
        Registry::from_file(file).map(drop).map_err(|fault| fault.to_string())
    };
    let (law, both) = ([GroundKind::LawRequest], [GroundKind::LawRequest, GroundKind::Proactive]);
    for (months, grounds, longest) in [(0, &law[..], 120), (121, &law, 120), (0, &both, 12), (13, &both, 12)] {
        let rule = format!(
            "habilitation ville-cantine: retention_months is from 1 to {longest} on these grounds (CRPA L114-8 II: 12 where PROACTIVE)"
        );
        assert_eq!(kept(months, grounds), Err(rule), "{months}");
    }
    for (months, grounds) in [(1, &law[..]), (120, &law), (1, &both), (12, &both)] {
        assert_eq!(kept(months, grounds), Ok(()), "{months}");
    }
}

#[test]
fn a_published_notice_never_changes() {
    let message = "procedure cantine: notice 1 was published and may not change; add a new version";
    let rewrites: [fn(&mut Procedure); 4] = [
        |p| p.notices[0].fr.push('.'),
        |p| p.notices[0].en.push('.'),
        |p| p.notices[0].version = 2,
        |p| p.notices = vec![Notice { version: 2, ..p.notices[0].clone() }],
    ];
    for rewrite in rewrites {
        let mut file = registry_file();
        rewrite(&mut file.procedures[0]);
        assert_eq!(registry().plan(file).unwrap_err().to_string(), message);
    }
    let mut file = registry_file();
    let second = Notice { version: 2, ..file.procedures[0].notices[0].clone() };
    file.procedures[0].notices.insert(0, second);
    assert_eq!(registry().plan(file).unwrap().len(), 1, "a new version is added, in any place");
}

#[test]
fn a_published_procedure_stays_so_that_it_cannot_come_back_with_other_texts() {
    let mut file = registry_file();
    let gone = file.procedures.remove(0);
    file.habilitations.retain(|h| !h.procedures.contains(&gone.id));
    let message = format!(
        "procedure {}: its notices were published, so it stays; take it out of the habilitations instead",
        gone.id
    );
    assert_eq!(registry().plan(file).unwrap_err().to_string(), message);
    assert_eq!(registry().check_change(&RegistryChange::RemoveProcedure(gone.id)).unwrap_err().to_string(), message);
}

#[test]
fn nobody_can_be_locked_out_of_the_registry() {
    let message = "participants: at least one key must have the role registry, or nobody could change it again";
    let locks: [fn(&mut RegistryFile); 3] = [
        |f| drop(f.participants.remove(2)),
        |f| f.participants[2].keys.clear(),
        |f| {
            f.participants[2].keys[0].roles = [Role::Audit].into();
        },
    ];
    for lock in locks {
        let mut file = registry_file();
        lock(&mut file);
        assert_eq!(registry().plan(file).unwrap_err().to_string(), message);
    }
    assert!(Registry::default().plan(RegistryFile::default()).is_err(), "nor by an empty first registry");
}

#[test]
fn a_key_moves_between_participants_in_either_order() {
    for (from, to) in [(0, 1), (1, 0)] {
        let mut file = registry_file();
        let key = file.participants[from].keys.remove(0);
        file.participants[to].keys.push(key.clone());
        let mut moved = registry();
        moved.plan(file.clone()).unwrap().into_iter().for_each(|change| moved.apply(change));
        assert!(moved.is_enrolled(file.participants[to].siret, &key.fingerprint, Role::Exchange));
        assert!(!moved.is_enrolled(file.participants[from].siret, &key.fingerprint, Role::Exchange));
    }
}

#[test]
fn keys_have_the_roles_of_their_own_participant_only() {
    let registry = registry();
    assert!(registry.is_enrolled(p(TOWN), &TOWN_KEY, Role::Exchange));
    assert!(!registry.is_enrolled(p(TOWN), &TOWN_KEY, Role::Registry));
    assert!(!registry.is_enrolled(p(DEPARTMENT), &TOWN_KEY, Role::Exchange));
    assert_eq!(registry.holder(&OPERATOR_KEY).unwrap().1, &[Role::Registry].into());
    assert!(registry.holder(&KeyFingerprint([7; 32])).is_none());
}

#[test]
fn a_change_is_told_field_by_field() {
    let before = registry();
    let mut file = registry_file();
    file.participants.remove(0);
    file.habilitations.remove(1);
    file.habilitations[0].quota_per_day = None;
    file.habilitations[0].status = HabilitationStatus::Revoked;
    file.datasets[0].filters.push("mois".to_owned());
    file.procedures.push(Procedure { id: p("creche"), ..file.procedures[0].clone() });
    let told: Vec<_> = before.plan(file).unwrap().iter().map(|change| before.summary(change)).collect();
    let told: Vec<_> = told.iter().map(|s| format!("{} {} {} {:?}", s.verb, s.kind, s.name, s.fields)).collect();
    assert_eq!(
        told,
        [
            r#"add procedure creche []"#,
            r#"change dataset dss.quotient_familial ["filters: + mois"]"#,
            r#"change habilitation departement-rentree ["quota_per_day: 10 → none", "status: \"active\" → \"revoked\""]"#,
            r#"remove habilitation ville-cantine []"#,
            r#"remove participant 99999999900017 []"#,
        ]
    );
}

#[test]
fn the_same_file_changes_nothing() {
    assert_eq!(registry().plan(registry_file()).unwrap(), []);
}

/// A registry that keeps the rules: some of the fixture's parts, keys dealt among participants.
fn some_registry() -> impl Strategy<Value = RegistryFile> {
    let file = registry_file();
    let holders = proptest::collection::vec(any::<Index>(), 3);
    let habilitations = subsequence(file.habilitations.clone(), 0..=2);
    (holders, habilitations, subsequence(file.procedures.clone(), 1..=2), any::<bool>(), any::<Index>()).prop_map(
        |(holders, habilitations, procedures, renamed, holder)| {
            let mut file = registry_file();
            let keys: Vec<_> = file.participants.iter_mut().flat_map(|p| p.keys.drain(..)).collect();
            for (key, to) in keys.into_iter().zip(holders) {
                let at = to.index(file.participants.len());
                file.participants[at].keys.push(key);
            }
            let held = habilitations.into_iter().map(|h| {
                let at = holder.index(file.participants.len());
                Habilitation { participant: file.participants[at].siret, ..h }
            });
            file.habilitations =
                held.filter(|h| h.procedures.iter().all(|id| procedures.iter().any(|p| p.id == *id))).collect();
            file.procedures = procedures;
            if renamed {
                file.datasets[0].title.push('!');
            }
            if file.participants[0].keys.is_empty() && file.habilitations.is_empty() {
                file.participants.remove(0);
            }
            file
        },
    )
}

proptest! {
    #[test]
    fn the_planned_changes_lead_to_the_target_and_its_indexes(before in some_registry(), target in some_registry()) {
        // What was published stays.
        let gone = before.procedures.iter().filter(|p| target.procedures.iter().all(|kept| kept.id != p.id));
        let target = RegistryFile { procedures: target.procedures.iter().chain(gone).cloned().collect(), ..target.clone() };
        let mut registry = Registry::from_file(before).unwrap();
        let changes = registry.plan(target.clone()).unwrap();
        for change in changes {
            let text = serde_json::to_string(&change).unwrap();
            registry.apply(serde_json::from_str(&text).unwrap());
        }
        // Equality covers the indexes of keys and of holders.
        prop_assert_eq!(&registry, &Registry::from_file(target.clone()).unwrap());
        prop_assert_eq!(registry.plan(target.clone()).unwrap(), []);
        for participant in &target.participants {
            for key in &participant.keys {
                prop_assert_eq!(registry.holder(&key.fingerprint), Some((participant.siret, &key.roles)));
            }
            let held: Vec<_> = registry.habilitations_of(participant.siret).map(|h| (**h).clone()).collect();
            let listed: Vec<_> = target.habilitations.iter().filter(|h| h.participant == participant.siret).collect();
            prop_assert_eq!(held.iter().collect::<Vec<_>>(), listed);
        }
    }
}
