//! What API Particulier offers, as data: a dataset is a row.
//!
//! From the OpenAPI of API Particulier (paths, parameters, types) and its table of scopes; one file for each provider. A
//! new dataset, modality or version is a new row there and nothing else.

use serde_json::Value;
use unefois_consent::registry::Dataset;

mod ants;
mod cnous;
mod dsnj;
mod dss;
mod filter;
mod france_travail;
mod gip_mds;
mod men;
mod mesri;
mod sdh;

pub use filter::{FilterForm, FilterRow};

/// One dataset in one major version.
#[derive(Debug)]
pub struct DatasetRow {
    /// The dataset's name in requests. Rows of several versions share it; see `row_of`.
    pub dataset: &'static str,
    /// Major version of the paths, `3`.
    pub version: u32,
    /// Its name for people, in French.
    pub title: &'static str,
    /// Ways to say who the person is, in order of preference.
    pub routes: &'static [Route],
    /// What can be asked.
    pub attributes: &'static [AttributeRow],
    /// What narrows the answer, or says who the person is.
    pub filters: &'static [FilterRow],
    /// Filters of which a question gives exactly one.
    pub one_of: &'static [&'static str],
    /// Where the answer says who it is about.
    pub person: Option<PersonFields>,
}

/// One path of the API.
#[derive(Debug)]
pub struct Route {
    /// How this path is told who the person is.
    pub modality: Modality,
    /// The path below the base URL.
    pub path: &'static str,
}

/// How a path is told who the person is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Modality {
    /// By the pivot identity in the query; the bearer is the token of an administration.
    Identity(IdentityParts),
    /// By the person's access token of FranceConnect, which is the bearer.
    FranceConnect,
    /// By a number that the question's filter of this name gives (`ine`, `identifiant`); the bearer is the token of an
    /// administration.
    Number(&'static str),
}

/// Which parts of the pivot identity a path takes, beside birth name, given names and birth date: it refuses the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdentityParts {
    /// Most given names.
    pub most_given_names: usize,
    /// Whether the birth date must have its month and its day.
    pub whole_birth_date: bool,
    /// The name of usage.
    pub usage_name: bool,
    /// The sex.
    pub sex: bool,
    /// The country of birth.
    pub country: bool,
    /// The commune of birth.
    pub commune: bool,
}

/// One attribute.
#[derive(Debug)]
pub struct AttributeRow {
    /// Its name in the dataset.
    pub name: &'static str,
    /// Where it is below `data` in the body: `quotient_familial.valeur`, or `admissions[].est_inscrit` for the list of that
    /// field of each item.
    pub field: &'static str,
    /// Its JSON type.
    pub shape: Shape,
    /// The scope without which the API leaves the field out.
    pub scope: &'static str,
    /// Its name for people, in French.
    pub title: &'static str,
    /// Whether its scope covers a part of a field that other scopes cover, so that the part alone may be left out.
    pub is_part: bool,
    /// Whether the answer to a FranceConnect token has it.
    pub by_france_connect: bool,
}

/// The JSON type of a value. Any of them may be null: the source knows that there is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A number without fraction.
    Integer,
    /// A number.
    Number,
    /// A text.
    Text,
    /// True or false.
    Flag,
    /// A list of values of one type.
    List(&'static Shape),
    /// An object. A field that is there has its type; other fields are the source's business.
    Object(&'static [(&'static str, Shape)]),
}

/// Where an answer says who it is about: names of fields in the object `at` of `data`.
#[derive(Debug)]
pub struct PersonFields {
    /// The object.
    pub at: &'static str,
    /// The birth name, or the only family name.
    pub birth_name: &'static str,
    /// Given names, as a text or a list.
    pub given_names: &'static str,
    /// `YYYY-MM-DD`; absent where the provider does not hold it to be sure.
    pub birth_date: Option<&'static str>,
}

impl Shape {
    /// Whether `value` has this type, or is null.
    pub fn admits(self, value: &Value) -> bool {
        match (self, value) {
            (_, Value::Null) => true,
            (Self::Integer, value) => value.is_i64() || value.is_u64(),
            (Self::Number, value) => value.is_number(),
            (Self::Text, value) => value.is_string(),
            (Self::Flag, value) => value.is_boolean(),
            (Self::List(of), Value::Array(items)) => items.iter().all(|item| of.admits(item)),
            (Self::Object(fields), Value::Object(object)) => {
                fields.iter().all(|(name, shape)| object.get(*name).is_none_or(|value| shape.admits(value)))
            }
            (Self::List(_) | Self::Object(_), _) => false,
        }
    }
}

impl AttributeRow {
    /// An attribute whose top-level field its scope covers.
    const fn new(
        name: &'static str,
        field: &'static str,
        shape: Shape,
        scope: &'static str,
        title: &'static str,
    ) -> Self {
        Self { name, field, shape, scope, title, is_part: false, by_france_connect: true }
    }

    /// An attribute that is a top-level field of the same name.
    const fn field(name: &'static str, shape: Shape, scope: &'static str, title: &'static str) -> Self {
        Self::new(name, name, shape, scope, title)
    }

    /// The scope covers this part alone.
    const fn part(self) -> Self {
        Self { is_part: true, ..self }
    }

    /// The answer to a FranceConnect token does not have it: the consumer knows it from FranceConnect.
    const fn not_by_france_connect(self) -> Self {
        Self { by_france_connect: false, ..self }
    }

    /// Whether the answer on `route` has it, scopes aside.
    pub fn is_offered_by(&self, route: &Route) -> bool {
        self.by_france_connect || route.modality != Modality::FranceConnect
    }
}

/// All datasets, each in its versions.
pub fn datasets() -> impl Iterator<Item = &'static DatasetRow> {
    let providers: [&'static [DatasetRow]; 9] = [
        dss::DATASETS,
        cnous::DATASETS,
        mesri::DATASETS,
        men::DATASETS,
        france_travail::DATASETS,
        gip_mds::DATASETS,
        dsnj::DATASETS,
        sdh::DATASETS,
        ants::DATASETS,
    ];
    providers.into_iter().flatten()
}

/// The row of a dataset of the registry: by its id, and by its version as `3`, `v3` or `3.1`. So that several versions can
/// live side by side, an id may end in the version that it is of: `cnous.etudiant_boursier.v4`.
pub(super) fn row_of(dataset: &Dataset) -> Option<&'static DatasetRow> {
    row(dataset.id.as_str(), &dataset.version)
}

fn row(id: &str, version: &str) -> Option<&'static DatasetRow> {
    let version: u32 = version.trim_start_matches('v').split('.').next().and_then(|v| v.parse().ok())?;
    datasets().find(|row| row.version == version && row.is_named(id))
}

impl DatasetRow {
    /// Whether `id` is the dataset's name, or that name in the row's version.
    pub fn is_named(&self, id: &str) -> bool {
        let rest = id.strip_prefix(self.dataset);
        rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix(".v") == Some(&self.version.to_string()))
    }

    /// The attribute `name`.
    pub fn attribute(&self, name: &str) -> Option<&AttributeRow> {
        self.attributes.iter().find(|a| a.name == name)
    }

    /// The filter `name`.
    pub fn filter(&self, name: &str) -> Option<&FilterRow> {
        self.filters.iter().find(|f| f.name == name)
    }
}

const fn by_france_connect(path: &'static str) -> Route {
    Route { modality: Modality::FranceConnect, path }
}

const fn by_identity(parts: IdentityParts, path: &'static str) -> Route {
    Route { modality: Modality::Identity(parts), path }
}

const fn by_number(filter: &'static str, path: &'static str) -> Route {
    Route { modality: Modality::Number(filter), path }
}

#[cfg(test)]
mod tests;
