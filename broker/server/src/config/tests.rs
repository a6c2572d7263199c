use super::*;

/// The sample configuration with another value at `key`.
fn with(key: &str, value: u64) -> Result<Config, String> {
    let mut file: toml::Table = toml::from_str(include_str!("../../../../deploy/unefois.toml")).unwrap();
    let (table, name) = key.split_once('.').unwrap();
    let value = toml::Value::Integer(value.try_into().unwrap());
    file.get_mut(table).unwrap().as_table_mut().unwrap().insert(name.to_owned(), value);
    file.try_into().map_err(|error: toml::de::Error| error.to_string())
}

fn validated(key: &str, value: u64) -> Result<(), String> {
    with(key, value)?.validate().map_err(|error| error.to_string())
}

#[test]
fn each_number_has_bounds_and_the_message_names_the_key() {
    let sample = with("store.segment_mb", 64).unwrap();
    sample.validate().unwrap();
    for (key, _, allowed) in sample.numbers() {
        let (least, most) = allowed.into_inner();
        for value in [least, most] {
            assert_eq!(validated(key, value), Ok(()), "{key} = {value}");
        }
        // Beyond its type, a number is refused while it is read.
        for value in [least.checked_sub(1), most.checked_add(1)].into_iter().flatten() {
            let error = validated(key, value).unwrap_err();
            let name = key.rsplit('.').next().unwrap();
            assert!(error.contains(name), "{key} = {value}: {error}");
        }
    }
}
