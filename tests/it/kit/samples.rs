//! The metrics page, sample by sample.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Proxy, soon};

impl Proxy {
    /// The samples of the page: name with labels, and value.
    pub async fn samples(&self) -> BTreeMap<String, f64> {
        let page = self.admin("/metrics").await;
        let lines = page.text().lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            (name.to_owned(), value.parse().expect("a number"))
        };
        lines.map(sample).collect()
    }

    /// Waits until a sample has this value, for no longer than `most`.
    pub async fn settles_within(&self, most: Duration, name: &str, value: f64) {
        let settled = tokio::time::timeout(most, self.settles(name, value)).await;
        assert!(settled.is_ok(), "{name} is not {value} within {most:?}");
    }

    /// Waits until a sample has this value.
    pub async fn settles(&self, name: &str, value: f64) {
        let mut last = None;
        let settled = async {
            while last.is_none_or(|last: f64| last.total_cmp(&value).is_ne()) {
                last = self.samples().await.get(name).copied();
            }
        };
        soon(format!("{name} to be {value}"), settled).await;
    }
}
