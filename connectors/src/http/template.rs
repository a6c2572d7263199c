//! Texts and JSON with placeholders.
//!
//! A template is read once, into pieces. A value is put between the pieces and encoded for the place where it stands, so
//! no value can become syntax: a name with `/`, `"` or `{}` stays a name.
//!
//! `{birth_name}` is the part of that name, `{filter.annee}` a filter. `{usage_name?}` alone leaves its query parameter,
//! header or member out where there is no value. `{given_names[]}` alone is a list. `{{` and `}}` are braces.

use serde_json::{Map, Value};

use crate::Fetch;
use crate::part::{self, Absent, Part};

/// A text with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Template {
    /// Pieces one after the other.
    Pieces(Vec<Piece>),
    /// One part that may be absent.
    Optional(Part),
    /// The list of given names.
    GivenNames,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Part(Part),
}

/// What a template gives.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Rendered {
    Text(String),
    List(Vec<String>),
    LeftOut,
}

impl Template {
    /// Reads `text`, or says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            literal.push_str(before);
            if let Some(after) = from.strip_prefix("{{") {
                literal.push('{');
                rest = after;
            } else if let Some(after) = from.strip_prefix("}}") {
                literal.push('}');
                rest = after;
            } else {
                let inside = from.strip_prefix('{').and_then(|from| from.split_once('}'));
                let Some((name, after)) = inside else {
                    return Err("a brace without its other half; write {{ or }} for a brace itself".to_owned());
                };
                let is_alone = text.len() == name.len() + 2;
                match (name.strip_suffix('?'), is_alone) {
                    (Some(name), true) => return Ok(Self::Optional(part_of(name)?)),
                    (Some(_), false) => return Err(alone(name)),
                    (None, true) if name == "given_names[]" => return Ok(Self::GivenNames),
                    (None, false) if name == "given_names[]" => return Err(alone(name)),
                    (None, _) => {}
                }
                if !literal.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut literal)));
                }
                pieces.push(Piece::Part(part_of(name)?));
                rest = after;
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Self::Pieces(pieces))
    }

    /// The template with the values of this question, each encoded by `encode`; what the operator wrote stays as it is.
    pub(super) fn render(&self, fetch: &Fetch<'_>, encode: fn(&str) -> String) -> Result<Rendered, Absent> {
        match self {
            Self::Pieces(pieces) => {
                let mut text = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Text(literal) => text.push_str(literal),
                        Piece::Part(part) => text.push_str(&encode(&part.value(fetch)?)),
                    }
                }
                Ok(Rendered::Text(text))
            }
            Self::Optional(part) => match part.value(fetch) {
                Ok(value) => Ok(Rendered::Text(encode(&value))),
                Err(Absent::Identity | Absent::Filter) => Ok(Rendered::LeftOut),
                Err(Absent::FilterRefused) => Err(Absent::FilterRefused),
            },
            Self::GivenNames => Ok(Rendered::List(part::given_names(fetch.identity).into_iter().map(encode).collect())),
        }
    }

    /// The filters that it names, and whether it needs them.
    pub(super) fn names_exchange(&self) -> bool {
        match self {
            Self::Pieces(pieces) => pieces.iter().any(|piece| matches!(piece, Piece::Part(Part::Exchange))),
            Self::Optional(part) => *part == Part::Exchange,
            Self::GivenNames => false,
        }
    }

    pub(super) fn filters(&self) -> Vec<(&str, bool)> {
        match self {
            Self::Pieces(pieces) => pieces.iter().filter_map(Piece::filter).map(|name| (name, true)).collect(),
            Self::Optional(Part::Filter(name)) => vec![(name, false)],
            Self::Optional(_) | Self::GivenNames => Vec::new(),
        }
    }
}

impl Piece {
    fn filter(&self) -> Option<&str> {
        if let Self::Part(Part::Filter(name)) = self { Some(name) } else { None }
    }
}

fn part_of(name: &str) -> Result<Part, String> {
    if let Some(filter) = name.strip_prefix("filter.").filter(|filter| !filter.is_empty()) {
        return Ok(Part::Filter(filter.to_owned()));
    }
    Part::of_person(name).ok_or_else(|| {
        format!("unknown placeholder {{{name}}}; known are {}, given_names[] and filter.NAME", part::NAMES)
    })
}

fn alone(name: &str) -> String {
    format!("{{{name}}} must be the whole value")
}

/// JSON whose texts have placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum JsonTemplate {
    Literal(Value),
    Text(Template),
    List(Vec<JsonTemplate>),
    Object(Vec<(String, JsonTemplate)>),
}

impl JsonTemplate {
    /// Reads the texts of `value`; keys are taken as they are.
    pub(super) fn parse(value: &Value) -> Result<Self, String> {
        Ok(match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => Self::Literal(value.clone()),
            Value::String(text) => Self::Text(Template::parse(text)?),
            Value::Array(items) => Self::List(items.iter().map(Self::parse).collect::<Result<_, _>>()?),
            Value::Object(members) => Self::Object(
                members
                    .iter()
                    .map(|(name, value)| Ok((name.clone(), Self::parse(value)?)))
                    .collect::<Result<_, String>>()?,
            ),
        })
    }

    /// The JSON with the values of this question, each as a text; none where all of it is left out.
    pub(super) fn render(&self, fetch: &Fetch<'_>) -> Result<Option<Value>, Absent> {
        Ok(Some(match self {
            Self::Literal(value) => value.clone(),
            Self::Text(template) => match template.render(fetch, str::to_owned)? {
                Rendered::Text(text) => Value::String(text),
                Rendered::List(texts) => texts.into(),
                Rendered::LeftOut => return Ok(None),
            },
            Self::List(items) => {
                let mut list = Vec::with_capacity(items.len());
                for item in items {
                    list.extend(item.render(fetch)?);
                }
                Value::Array(list)
            }
            Self::Object(members) => {
                let mut object = Map::new();
                for (name, member) in members {
                    if let Some(value) = member.render(fetch)? {
                        object.insert(name.clone(), value);
                    }
                }
                Value::Object(object)
            }
        }))
    }

    /// The filters that it names, and whether it needs them.
    pub(super) fn filters(&self) -> Vec<(&str, bool)> {
        match self {
            Self::Literal(_) => Vec::new(),
            Self::Text(template) => template.filters(),
            Self::List(items) => items.iter().flat_map(Self::filters).collect(),
            Self::Object(members) => members.iter().flat_map(|(_, member)| member.filters()).collect(),
        }
    }
}
