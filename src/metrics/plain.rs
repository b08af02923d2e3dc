//! The page in the text format of Prometheus, made of the one in OpenMetrics
//! that the client library writes.
//!
//! The two differ in what a counter is called in its description, in the types
//! there are, and in the last line.

/// The content type of that format.
pub const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The content type of OpenMetrics.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The same page in the older format.
pub fn plain(page: &str) -> String {
    let mut text = String::with_capacity(page.len());
    let mut help = None;
    for line in page.lines() {
        match line
            .split_once(' ')
            .map(|(mark, rest)| (mark, rest.split_once(' ')))
        {
            Some(("#", Some(("HELP", about)))) => help = Some(about),
            Some(("#", Some(("TYPE", about)))) => {
                let (name, kind) = about.rsplit_once(' ').unwrap_or((about, "unknown"));
                let (suffix, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "untyped"),
                    same => ("", same),
                };
                let about = help.take().and_then(|help| help.split_once(' '));
                if let Some((_, help)) = about {
                    text.push_str(&format!("# HELP {name}{suffix} {help}\n"));
                }
                text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
            }
            // The unit, and the end.
            Some(("#", _)) => {}
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_described_by_the_name_that_their_samples_have() {
        let page = "# HELP a_things Things of all sorts.\n# TYPE a_things counter\n\
                    a_things_total{kind=\"# x\"} 1\n# HELP b Seconds.\n# TYPE b gauge\n\
                    # UNIT b seconds\nb 2\n# HELP c About.\n# TYPE c info\nc_info{v=\"1\"} 1\n\
                    # EOF\n";
        let wanted = "# HELP a_things_total Things of all sorts.\n# TYPE a_things_total counter\n\
                      a_things_total{kind=\"# x\"} 1\n# HELP b Seconds.\n# TYPE b gauge\nb 2\n\
                      # HELP c_info About.\n# TYPE c_info gauge\nc_info{v=\"1\"} 1\n";
        assert_eq!(plain(page), wanted);
    }
}
