//! Trust policies (C2SP tlog-policy): which logs and witnesses are known, and which witnesses together are enough.
//!
//! The file is read strictly: what the specification does not name is refused, with the line. A policy says when a
//! checkpoint is valid; when a cosignature is too old is for whoever has a clock.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::checkpoint::Checkpoint;
use crate::cosignature::{Cosignature, WitnessKey};
use crate::error::AuditError;
use crate::note::{SignedNote, VerifierKey};
use crate::text;

/// Longest policy that is read, in bytes.
pub const MAX_POLICY_BYTES: usize = 256 * 1024;

/// A name or an address of a policy file: octets without meaning, since the file need not be UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Octets(Vec<u8>);

impl Octets {
    /// The octets as text, where they are UTF-8.
    pub fn as_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Display for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// A log that a policy lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyLog {
    /// Its key; the name is the log's origin.
    pub key: VerifierKey,
    /// Where it is, if the policy says so.
    pub url: Option<Octets>,
}

/// A witness that a policy lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyWitness {
    /// What the policy calls it.
    pub name: Octets,
    /// Its key.
    pub key: WitnessKey,
    /// Where it takes checkpoints, if the policy says so: the submission prefix of tlog-witness.
    pub url: Option<Octets>,
}

/// What a name stands for, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defined {
    Witness(usize),
    Group(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    threshold: usize,
    // INVARIANT: groups among them come before this one.
    members: Vec<Defined>,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    groups: Vec<Group>,
    /// `None` asks for no cosignature.
    quorum: Option<Defined>,
}

/// What is wrong with a policy file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the policy: {problem}")]
pub struct PolicyError {
    /// The line, from 1; the last one for what the whole file lacks.
    pub line: usize,
    /// What is wrong and what to change.
    pub problem: String,
}

/// What a checkpoint is worth under a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The checkpoint; one of the policy's logs signed it.
    pub checkpoint: Checkpoint,
    /// The cosignature of each witness of the policy, in the policy's order; `None` where it has none.
    pub cosignatures: Vec<Option<Cosignature>>,
    /// Whether they are enough.
    pub quorum_is_met: bool,
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// The first line that deviates from the specification, or a file above [`MAX_POLICY_BYTES`].
    pub fn parse(file: &[u8]) -> Result<Self, PolicyError> {
        let mut reader = Reader::default();
        if file.len() > MAX_POLICY_BYTES {
            return Err(PolicyError { line: 1, problem: format!("the file is longer than {MAX_POLICY_BYTES} bytes") });
        }
        let mut rest = file;
        let mut number = 0;
        while !rest.is_empty() {
            number += 1;
            let fault = |problem: String| PolicyError { line: number, problem };
            let end = rest.iter().position(|byte| *byte == b'\n');
            let end = end.ok_or_else(|| fault("the last line must end with a newline too".to_owned()))?;
            let (line, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            reader.line(line).map_err(fault)?;
        }
        let quorum = reader.quorum.ok_or_else(|| PolicyError {
            line: number,
            problem: "the file ends without a quorum line; add one, such as: quorum NAME".to_owned(),
        })?;
        Ok(Self { logs: reader.logs, witnesses: reader.witnesses, groups: reader.groups, quorum })
    }

    /// The logs, in the order of the file.
    pub fn logs(&self) -> &[PolicyLog] {
        &self.logs
    }

    /// The witnesses, in the order of the file.
    pub fn witnesses(&self) -> &[PolicyWitness] {
        &self.witnesses
    }

    /// The same policy with one more log, unless it has the key already: for a log that is known otherwise.
    #[must_use]
    pub fn with_log(mut self, key: &VerifierKey) -> Self {
        if !self.logs.iter().any(|log| log.key == *key) {
            self.logs.push(PolicyLog { key: key.clone(), url: None });
        }
        self
    }

    /// Whether the witnesses for which `has_cosigned` holds are a quorum; it is asked by their place in
    /// [`Policy::witnesses`].
    pub fn is_met(&self, has_cosigned: impl Fn(usize) -> bool) -> bool {
        let mut groups: Vec<bool> = Vec::with_capacity(self.groups.len());
        let holds = |defined: &Defined, groups: &[bool]| match defined {
            Defined::Witness(place) => has_cosigned(*place),
            Defined::Group(place) => groups.get(*place).copied().unwrap_or(false),
        };
        for group in &self.groups {
            let count = group.members.iter().filter(|member| holds(member, &groups)).count();
            groups.push(count >= group.threshold);
        }
        self.quorum.as_ref().is_none_or(|quorum| holds(quorum, &groups))
    }

    /// Judges the note of a checkpoint: its log's signature, and each cosignature of a known witness.
    ///
    /// # Errors
    /// Those of [`SignedNote::parse`] and [`Checkpoint::parse_text`]; [`AuditError::NoKnownKey`] where no log of the
    /// policy with the checkpoint's origin signed it; [`AuditError::FalseSignature`] if a line in the name of a known
    /// log or witness does not verify. A quorum that is not met is no error: the verdict says it.
    pub fn judge(&self, note: &str) -> Result<Verdict, AuditError> {
        let note = SignedNote::parse(note)?;
        let checkpoint = Checkpoint::parse_text(&note.text)?;
        let keys: Vec<_> =
            self.logs.iter().map(|log| &log.key).filter(|key| key.name() == checkpoint.origin).cloned().collect();
        note.verify(&keys)?;
        let cosignatures: Vec<_> =
            self.witnesses.iter().map(|witness| witness.key.cosignature_on(&note)).collect::<Result<_, _>>()?;
        let quorum_is_met = self.is_met(|place| cosignatures.get(place).is_some_and(Option::is_some));
        Ok(Verdict { checkpoint, cosignatures, quorum_is_met })
    }
}

/// What the lines so far say.
#[derive(Default)]
struct Reader {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    groups: Vec<Group>,
    names: BTreeMap<Octets, Defined>,
    grouped: BTreeSet<Octets>,
    quorum: Option<Option<Defined>>,
}

impl Reader {
    fn line(&mut self, line: &[u8]) -> Result<(), String> {
        if line.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
            return Err("control characters other than tab are not allowed; save it with Unix line ends".to_owned());
        }
        let items: Vec<&[u8]> = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|i| !i.is_empty()).collect();
        match items.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with(b"#") => Ok(()),
            [b"log", key] => self.log(key, None),
            [b"log", key, url] => self.log(key, Some(url)),
            [b"log", ..] => Err("a log is written: log VKEY [URL]".to_owned()),
            [b"witness", name, key] => self.witness(name, key, None),
            [b"witness", name, key, url] => self.witness(name, key, Some(url)),
            [b"witness", ..] => Err("a witness is written: witness NAME VKEY [URL]".to_owned()),
            [b"group", name, threshold, members @ ..] if !members.is_empty() => self.group(name, threshold, members),
            [b"group", ..] => Err("a group is written: group NAME all|any|NUMBER MEMBER…".to_owned()),
            [b"quorum", name] => self.quorum(name),
            [b"quorum", ..] => Err("the quorum is written: quorum NAME, or: quorum none".to_owned()),
            [other, ..] => Err(format!(
                "{} is none of log, witness, group, quorum; a comment starts with #",
                String::from_utf8_lossy(other)
            )),
        }
    }

    fn log(&mut self, key: &[u8], url: Option<&[u8]>) -> Result<(), String> {
        let key: VerifierKey = vkey(key)?;
        if self.logs.iter().any(|log| log.key.public_key() == key.public_key()) {
            return Err("another log has this public key already; list each log once".to_owned());
        }
        self.logs.push(PolicyLog { key, url: url.map(|url| Octets(url.to_vec())) });
        Ok(())
    }

    fn witness(&mut self, name: &[u8], key: &[u8], url: Option<&[u8]>) -> Result<(), String> {
        let key: WitnessKey = vkey(key)?;
        if self.witnesses.iter().any(|witness| witness.key.public_key() == key.public_key()) {
            return Err("another witness has this public key already; list each witness once".to_owned());
        }
        let name = self.define(name, Defined::Witness(self.witnesses.len()))?;
        self.witnesses.push(PolicyWitness { name, key, url: url.map(|url| Octets(url.to_vec())) });
        Ok(())
    }

    fn group(&mut self, name: &[u8], threshold: &[u8], names: &[&[u8]]) -> Result<(), String> {
        let mut members = Vec::with_capacity(names.len());
        for member in names {
            let member = Octets(member.to_vec());
            if member.0 == b"none" {
                return Err("none cannot be a member of a group".to_owned());
            }
            members.push(self.defined(&member)?);
            if !self.grouped.insert(member.clone()) {
                return Err(format!("{member} is a member already; each name may be so once in all groups"));
            }
        }
        let threshold = match threshold {
            b"all" => members.len(),
            b"any" => 1,
            number => std::str::from_utf8(number)
                .ok()
                .and_then(text::decimal)
                .and_then(|number| usize::try_from(number).ok())
                .filter(|number| (1..=members.len()).contains(number))
                .ok_or_else(|| format!("the threshold must be all, any, or a number from 1 to {}", members.len()))?,
        };
        self.define(name, Defined::Group(self.groups.len()))?;
        self.groups.push(Group { threshold, members });
        Ok(())
    }

    fn quorum(&mut self, name: &[u8]) -> Result<(), String> {
        if self.quorum.is_some() {
            return Err("there is a quorum line already; keep one".to_owned());
        }
        let quorum = if name == b"none" { None } else { Some(self.defined(&Octets(name.to_vec()))?) };
        self.quorum = Some(quorum);
        Ok(())
    }

    fn define(&mut self, name: &[u8], defined: Defined) -> Result<Octets, String> {
        let name = Octets(name.to_vec());
        if name.0 == b"none" {
            return Err("none is a name of the format itself; choose another".to_owned());
        }
        if self.names.insert(name.clone(), defined).is_some() {
            return Err(format!("{name} is defined already; witnesses and groups share their names"));
        }
        Ok(name)
    }

    fn defined(&self, name: &Octets) -> Result<Defined, String> {
        let defined = self.names.get(name).copied();
        defined.ok_or_else(|| format!("{name} is not defined on a line before this one"))
    }
}

fn vkey<K: std::str::FromStr<Err = AuditError>>(text: &[u8]) -> Result<K, String> {
    let text = std::str::from_utf8(text).map_err(|_| "the verifier key is not UTF-8".to_owned())?;
    text.parse().map_err(|error: AuditError| error.to_string())
}

#[cfg(test)]
mod tests;
