//! What API Particulier offers, as data: a dataset is a row.
//!
//! From the OpenAPI of API Particulier (paths, parameters, types) and its table of scopes. A new dataset, modality or
//! version is a new row here and nothing else.

use serde_json::Value;

/// One dataset in one major version.
#[derive(Debug)]
pub struct DatasetRow {
    /// The dataset's name in requests. Rows of several versions share it.
    pub dataset: &'static str,
    /// Major version of the paths, `3`.
    pub version: u32,
    /// Ways to say who the person is, in order of preference.
    pub routes: &'static [Route],
    /// What can be asked.
    pub attributes: &'static [AttributeRow],
    /// What narrows the answer.
    pub filters: &'static [FilterRow],
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
    /// By the pivot identity in the query; the bearer is the broker's token.
    Identity,
    /// By the person's access token of FranceConnect, which is the bearer.
    FranceConnect,
    /// By a number that the question's filter of this name gives (`ine`, `identifiant`); the bearer is the broker's
    /// token.
    Number(&'static str),
}

/// One attribute.
#[derive(Debug)]
pub struct AttributeRow {
    /// Its name in the dataset.
    pub name: &'static str,
    /// Where it is below `data` in the body.
    pub field: &'static [&'static str],
    /// Its JSON type.
    pub shape: Shape,
    /// The scope without which the API leaves the field out.
    pub scope: &'static str,
}

/// The JSON type of a value. Any of them may be null: the source knows that there is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A number without fraction.
    Integer,
    /// A text.
    Text,
    /// True or false.
    Flag,
    /// A list.
    List,
    /// An object.
    Object,
}

impl Shape {
    /// Whether `value` has this type, or is null.
    pub fn admits(self, value: &Value) -> bool {
        value.is_null()
            || match self {
                Self::Integer => value.is_i64() || value.is_u64(),
                Self::Text => value.is_string(),
                Self::Flag => value.is_boolean(),
                Self::List => value.is_array(),
                Self::Object => value.is_object(),
            }
    }
}

/// One filter.
#[derive(Debug)]
pub struct FilterRow {
    /// Its name in questions and in the query.
    pub name: &'static str,
    /// The form of its value.
    pub form: FilterForm,
}

/// The form of a filter's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterForm {
    /// Four digits.
    Year,
    /// 1 to 12, with or without a leading zero.
    Month,
    /// 1 to 32 letters and digits.
    Number,
}

impl FilterForm {
    /// The value as the API takes it, or none where it has not this form.
    pub fn accept(self, value: &str) -> Option<String> {
        let digits = value.bytes().all(|b| b.is_ascii_digit());
        let right = match self {
            Self::Year => digits && value.len() == 4,
            Self::Month => digits && (1..=2).contains(&value.len()),
            Self::Number => (1..=32).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_alphanumeric()),
        };
        match self {
            Self::Year | Self::Number => right.then(|| value.to_owned()),
            // The API takes an integer.
            Self::Month => {
                let month = value.parse::<u8>().ok().filter(|m| right && (1..=12).contains(m));
                month.map(|m| m.to_string())
            }
        }
    }
}

const fn attribute(
    name: &'static str,
    field: &'static [&'static str],
    shape: Shape,
    scope: &'static str,
) -> AttributeRow {
    AttributeRow { name, field, shape, scope }
}

static DATASETS: &[DatasetRow] = &[DatasetRow {
    dataset: "dss.quotient_familial",
    version: 3,
    routes: &[
        Route { modality: Modality::FranceConnect, path: "/v3/dss/quotient_familial/france_connect" },
        Route { modality: Modality::Identity, path: "/v3/dss/quotient_familial/identite" },
    ],
    attributes: &[
        attribute("valeur", &["quotient_familial", "valeur"], Shape::Integer, "cnaf_quotient_familial"),
        attribute("fournisseur", &["quotient_familial", "fournisseur"], Shape::Text, "cnaf_quotient_familial"),
        attribute("annee", &["quotient_familial", "annee"], Shape::Integer, "cnaf_quotient_familial"),
        attribute("mois", &["quotient_familial", "mois"], Shape::Integer, "cnaf_quotient_familial"),
        attribute("annee_calcul", &["quotient_familial", "annee_calcul"], Shape::Integer, "cnaf_quotient_familial"),
        attribute("mois_calcul", &["quotient_familial", "mois_calcul"], Shape::Integer, "cnaf_quotient_familial"),
        attribute("allocataires", &["allocataires"], Shape::List, "cnaf_allocataires"),
        attribute("enfants", &["enfants"], Shape::List, "cnaf_enfants"),
        attribute("adresse", &["adresse"], Shape::Object, "cnaf_adresse"),
    ],
    filters: &[
        FilterRow { name: "annee", form: FilterForm::Year },
        FilterRow { name: "mois", form: FilterForm::Month },
    ],
}];

/// All datasets, each in its versions.
pub fn datasets() -> &'static [DatasetRow] {
    DATASETS
}

/// The row of `dataset` in the version that the registry writes as `3`, `v3` or `3.1`.
pub(super) fn row(dataset: &str, version: &str) -> Option<&'static DatasetRow> {
    let major: u32 = version.trim_start_matches('v').split('.').next().and_then(|v| v.parse().ok())?;
    DATASETS.iter().find(|row| row.dataset == dataset && row.version == major)
}

impl DatasetRow {
    /// The attribute `name`.
    pub fn attribute(&self, name: &str) -> Option<&AttributeRow> {
        self.attributes.iter().find(|a| a.name == name)
    }

    /// The filter `name`.
    pub fn filter(&self, name: &str) -> Option<&FilterRow> {
        self.filters.iter().find(|f| f.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_as_its_major_number() {
        for good in ["3", "v3", "3.1", "v3.0.2"] {
            assert!(row("dss.quotient_familial", good).is_some(), "{good}");
        }
        for bad in ["", "v", "2", "v4", "30", "three"] {
            assert!(row("dss.quotient_familial", bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn filters_are_checked_before_they_leave() {
        assert_eq!(FilterForm::Year.accept("2026").as_deref(), Some("2026"));
        assert_eq!(FilterForm::Month.accept("05").as_deref(), Some("5"));
        for (form, bad) in [
            (FilterForm::Year, "26"),
            (FilterForm::Year, "20266"),
            (FilterForm::Year, "２０２６"),
            (FilterForm::Month, "0"),
            (FilterForm::Month, "13"),
            (FilterForm::Month, "+5"),
            (FilterForm::Month, "005"),
            (FilterForm::Month, ""),
            (FilterForm::Number, "a&b"),
        ] {
            assert_eq!(form.accept(bad), None, "{bad}");
        }
    }

    #[test]
    fn no_row_names_an_attribute_twice() {
        for row in datasets() {
            let names: std::collections::BTreeSet<_> = row.attributes.iter().map(|a| a.name).collect();
            assert_eq!(names.len(), row.attributes.len());
        }
    }
}
