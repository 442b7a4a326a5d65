//! What an apply would change, as a unified diff of the parts that people write.

use nullius_model::AnyObject;
use similar::TextDiff;

use super::remote::written_part;
use crate::{
    failure::Failure,
    output::{escape, yaml_text},
};

/// The difference between two forms of an object; empty when there is none.
pub(crate) fn diff(
    label: &str,
    live: Option<&AnyObject>,
    wanted: Option<&AnyObject>,
) -> Result<String, Failure> {
    let text = |object: Option<&AnyObject>| match object {
        Some(object) => yaml_text(&written_part(object)?),
        None => Ok(String::new()),
    };
    let (before, after) = (text(live)?, text(wanted)?);
    if before == after {
        return Ok(String::new());
    }
    let header = |object: Option<&AnyObject>, side: &str| match object {
        Some(_) => format!("{label} ({side})"),
        None => "/dev/null".to_owned(),
    };
    let unified = TextDiff::from_lines(&before, &after)
        .unified_diff()
        .context_radius(3)
        .header(&header(live, "hub"), &header(wanted, "file"))
        .to_string();
    Ok(escape::lines(&unified))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use nullius_model::{GroupSpec, Object, ObjectMeta};

    use super::*;

    fn group(description: &str) -> AnyObject {
        let spec = GroupSpec { description: Some(description.to_owned()) };
        Object { metadata: ObjectMeta::named("devs".parse().unwrap()), spec, status: None }.into()
    }

    #[test]
    fn only_what_people_write_is_compared() {
        let mut live = group("old");
        live.metadata_mut().generation = Some(7);
        assert_eq!(diff("Group/devs", Some(&live), Some(&group("old"))).unwrap(), "");
        insta::assert_snapshot!(diff("Group/devs", Some(&live), Some(&group("new"))).unwrap());
        insta::assert_snapshot!(diff("Group/devs", None, Some(&group("new"))).unwrap());
    }
}
