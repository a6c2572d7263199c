//! Checkpoints (C2SP tlog-checkpoint): the signed statement that the log had this root at this size.
//!
//! Extension lines are refused: this log never writes them, and no auditor could check them. Only a witness, which serves
//! logs of others too, reads past them ([`Checkpoint::parse_extended`]).

use crate::MAX_TREE_SIZE;
use crate::error::{AuditError, Format};
use crate::hash::{EMPTY_ROOT, Hash};
use crate::note::{SignedNote, VerifierKey, push_signature_line};
use crate::text;

/// The head of a log's tree at one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the log, also the name of the key that signs: a URL without scheme, by convention.
    pub origin: String,
    /// Number of leaves.
    pub size: u64,
    /// Root of the tree of these leaves.
    pub root: Hash,
}

impl Checkpoint {
    /// The text to sign: origin, size and root, a line each.
    pub fn note_text(&self) -> String {
        let mut text = String::with_capacity(self.origin.len() + 80);
        self.push_text(&mut text);
        text
    }

    /// Reads a text that [`Checkpoint::note_text`] prints.
    ///
    /// # Errors
    /// [`AuditError::Malformed`] for anything else, and for an empty tree with a root that is not [`EMPTY_ROOT`].
    pub fn parse_text(text: &str) -> Result<Self, AuditError> {
        let (checkpoint, extensions) = Self::read_lines(text)?;
        if !extensions.is_empty() {
            return Err(Format::Checkpoint.broken("it must have three lines and no more"));
        }
        if checkpoint.size == 0 && checkpoint.root != EMPTY_ROOT {
            return Err(Format::Checkpoint.broken("the root of an empty tree must be that of no leaves"));
        }
        Ok(checkpoint)
    }

    /// Reads a text that may go on with extension lines, and whose empty tree may have any root: a witness answers that
    /// fault in a way of its own (tlog-witness).
    ///
    /// # Errors
    /// [`AuditError::Malformed`] for any other deviation from tlog-checkpoint.
    pub fn parse_extended(text: &str) -> Result<Self, AuditError> {
        let (checkpoint, mut extensions) = Self::read_lines(text)?;
        while !extensions.is_empty() {
            if text::take_line(&mut extensions).is_none_or(str::is_empty) {
                return Err(Format::Checkpoint.broken("its extension lines must not be empty and end with a newline"));
            }
        }
        Ok(checkpoint)
    }

    /// The first three lines, and what follows them.
    fn read_lines(text: &str) -> Result<(Self, &str), AuditError> {
        let mut rest = text;
        let mut line = || text::take_line(&mut rest).ok_or(Format::Checkpoint.broken("it must have three lines"));
        let origin = line()?;
        let size = line()?;
        let root = line()?;
        if origin.is_empty() || !text::is_note_text(origin) {
            return Err(Format::Checkpoint.broken("its origin must not be empty nor have control characters"));
        }
        let size = text::decimal(size)
            .filter(|size| *size <= MAX_TREE_SIZE)
            .ok_or(Format::Checkpoint.broken("its size must be a decimal number below 2^63"))?;
        let root = Hash::from_base64(root)?;
        Ok((Self { origin: origin.to_owned(), size, root }, rest))
    }

    /// The whole note, with the Ed25519 signature of [`Checkpoint::note_text`] by the log's key.
    pub fn signed(&self, signature: &[u8; 64], key_id: u32) -> String {
        let mut note = String::with_capacity(2 * self.origin.len() + 200);
        self.push_text(&mut note);
        note.push('\n');
        push_signature_line(&mut note, &self.origin, key_id, signature);
        note
    }

    /// Reads a note and checks that the key signed it and that it is of the log `origin`.
    ///
    /// # Errors
    /// Those of [`SignedNote::parse`], [`SignedNote::verify`] and [`Checkpoint::parse_text`];
    /// [`AuditError::OtherLog`] if the origin differs.
    pub fn open(note: &str, key: &VerifierKey, origin: &str) -> Result<Self, AuditError> {
        let note = SignedNote::parse(note)?;
        note.verify(std::slice::from_ref(key))?;
        let checkpoint = Self::parse_text(&note.text)?;
        if checkpoint.origin != origin {
            return Err(AuditError::OtherLog);
        }
        Ok(checkpoint)
    }

    fn push_text(&self, out: &mut String) {
        out.push_str(&self.origin);
        out.push('\n');
        text::push_decimal(out, self.size);
        out.push('\n');
        text::push_base64(out, &self.root.0);
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::LogKey;

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            origin: "example.com/behind-the-sofa".to_owned(),
            size: 20_852_163,
            root: Hash::from_base64("CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=").unwrap(),
        }
    }

    const TEXT: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";

    #[test]
    fn the_example_of_the_specification_is_read_and_printed() {
        let note = format!(
            "{TEXT}\n— example.com/behind-the-sofa \
             Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
        );
        let parsed = SignedNote::parse(&note).unwrap();
        assert_eq!(Checkpoint::parse_text(&parsed.text).unwrap(), checkpoint());
        assert_eq!(checkpoint().note_text(), TEXT);
        let signature = &parsed.signatures[0];
        let bytes: [u8; 64] = signature.signature.clone().try_into().unwrap();
        assert_eq!(checkpoint().signed(&bytes, signature.id), note);
    }

    #[test]
    fn only_a_checkpoint_signed_by_the_key_for_the_origin_opens() {
        let key = LogKey::new("example.com/behind-the-sofa", 1);
        let note = key.sign(&checkpoint());
        let origin = "example.com/behind-the-sofa";
        assert_eq!(Checkpoint::open(&note, key.verifier(), origin).unwrap(), checkpoint());

        let stranger = LogKey::new(origin, 2);
        assert_eq!(Checkpoint::open(&note, stranger.verifier(), origin), Err(AuditError::NoKnownKey));
        assert_eq!(Checkpoint::open(&note, key.verifier(), "example.com/other"), Err(AuditError::OtherLog));
        let changed = note.replace("20852163", "20852164");
        assert_eq!(Checkpoint::open(&changed, key.verifier(), origin), Err(AuditError::FalseSignature));
    }

    #[test]
    fn a_text_in_any_other_form_is_refused() {
        let refused = [
            "",
            "\n",
            TEXT.trim_end(),
            &format!("{TEXT}\n"),
            &format!("{TEXT}extension\n"),
            &format!("\n{TEXT}"),
            &TEXT.replace("20852163", "020852163"),
            &TEXT.replace("20852163", "-1"),
            &TEXT.replace("20852163", ""),
            &TEXT.replace("20852163", "9223372036854775808"),
            &TEXT.replace("20852163", "0"),
            &TEXT.replace('\n', "\r\n"),
            &TEXT.replace("q2I=", "q2J="),
            &TEXT.replace("q2I=", "q2I"),
            &TEXT.replace("example.com/behind-the-sofa", ""),
        ];
        for text in refused {
            assert!(Checkpoint::parse_text(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_empty_tree_has_a_checkpoint() {
        let empty = Checkpoint { origin: "log".to_owned(), size: 0, root: EMPTY_ROOT };
        assert_eq!(Checkpoint::parse_text(&empty.note_text()).unwrap(), empty);
    }

    proptest! {
        #[test]
        fn a_checkpoint_parser_never_panics_and_prints_back(
            text in "(\\PC|\n){0,120}|[a-z ]{0,3}\n[0-9]{1,20}\n[A-Za-z0-9+/]{42}[A-Za-z0-9+/]=\n{0,2}",
        ) {
            if let Ok(checkpoint) = Checkpoint::parse_text(&text) {
                prop_assert_eq!(checkpoint.note_text(), text);
            }
        }
    }
}
