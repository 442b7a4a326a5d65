//! JUnit XML, as every build server counts it: a suite for each file, a case for each finding or fault.

use std::collections::BTreeMap;

use super::{Finding, Report, ScanFault, SpotAt, Waived};

/// The report as JUnit XML.
pub fn junit(report: &Report) -> String {
    let mut suites: BTreeMap<&str, Suite<'_>> = BTreeMap::new();
    for finding in &report.findings {
        suites.entry(&finding.location.file).or_default().findings.push(finding);
    }
    for waived in &report.waived {
        suites.entry(&waived.finding.location.file).or_default().waived.push(waived);
    }
    for fault in &report.errors {
        suites.entry(&fault.file).or_default().faults.push(fault);
    }
    if suites.is_empty() {
        suites.insert("nullius scan", Suite::default());
    }
    let count = |of: fn(&Suite<'_>) -> usize| suites.values().map(of).sum::<usize>();
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"nullius scan\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\">\n",
        count(|suite| suite.tests()),
        count(|suite| suite.findings.len()),
        count(|suite| suite.faults.len()),
        count(|suite| suite.waived.len()),
    );
    for (file, suite) in &suites {
        suite.write(file, &report.measures(), &mut xml);
    }
    xml.push_str("</testsuites>\n");
    xml
}

#[derive(Default)]
struct Suite<'a> {
    findings: Vec<&'a Finding>,
    waived: Vec<&'a Waived>,
    faults: Vec<&'a ScanFault>,
}

impl Suite<'_> {
    fn tests(&self) -> usize {
        (self.findings.len() + self.waived.len() + self.faults.len()).max(1)
    }

    fn write(&self, file: &str, policy: &str, xml: &mut String) {
        xml.push_str(&format!(
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\">\n",
            escaped(file),
            self.tests(),
            self.findings.len(),
            self.faults.len(),
            self.waived.len(),
        ));
        for finding in &self.findings {
            let (at, text) = (&finding.location, details(finding));
            xml.push_str(&format!(
                "    <testcase classname=\"{}\" name=\"{}\" file=\"{}\">\n      <failure type=\"{}\" message=\"{}\">{}:{}:{}: {}</failure>\n    </testcase>\n",
                escaped(&finding.object.label()),
                escaped(&finding.check),
                escaped(&at.file),
                escaped(&finding.check),
                escaped(&finding.message),
                escaped(&at.file),
                at.line,
                at.column,
                escaped(&text),
            ));
        }
        for waived in &self.waived {
            xml.push_str(&format!(
                "    <testcase classname=\"{}\" name=\"{}\" file=\"{}\">\n      <skipped message=\"waived until {} by {}: {}\"/>\n    </testcase>\n",
                escaped(&waived.finding.object.label()),
                escaped(&waived.finding.check),
                escaped(&waived.finding.location.file),
                escaped(&waived.expires),
                escaped(&waived.owner),
                escaped(&waived.reason),
            ));
        }
        for fault in &self.faults {
            let place = fault.line.map(|line| format!("line {line}: ")).unwrap_or_default();
            let next = fault.next.as_deref().unwrap_or_default();
            xml.push_str(&format!(
                "    <testcase classname=\"{}\" name=\"reading\" file=\"{}\">\n      <error message=\"{}{}\">{}</error>\n    </testcase>\n",
                escaped(file),
                escaped(file),
                place,
                escaped(&fault.message),
                escaped(next),
            ));
        }
        if self.findings.is_empty() && self.waived.is_empty() && self.faults.is_empty() {
            let policy = escaped(policy);
            xml.push_str(&format!(
                "    <testcase classname=\"nullius scan\" name=\"{policy}\"/>\n"
            ));
        }
        xml.push_str("  </testsuite>\n");
    }
}

fn details(finding: &Finding) -> String {
    let spot = |spot: &SpotAt| match spot.fix.as_str() {
        "" => spot.path.clone(),
        fix => format!("{}: {fix}", spot.path),
    };
    if finding.spots.is_empty() {
        return finding.fix.clone();
    }
    finding.spots.iter().map(spot).collect::<Vec<_>>().join("\n")
}

/// Text for XML 1.0: what it cannot hold becomes a replacement character.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\n' => safe.push_str("&#10;"),
            '\t' => safe.push_str("&#9;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_stays_text() {
        assert_eq!(escaped("a<b>\"&\u{1b}\n"), "a&lt;b&gt;&quot;&amp;\u{fffd}&#10;");
    }
}
