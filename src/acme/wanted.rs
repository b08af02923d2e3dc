//! What a configuration asks of the CA.

use std::collections::BTreeSet;

use crate::config::{Acme, Challenge, Config};

/// The names, and how they are to be asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    pub(super) acme: Acme,
    pub(super) names: BTreeSet<String>,
    /// The challenges that a listener would answer, in the order in which they
    /// are tried; at least one.
    pub(super) challenges: Vec<Challenge>,
}

impl Wanted {
    /// `None` if no certificate comes by ACME.
    pub(super) fn of(config: &Config) -> Option<Self> {
        let acme = config.acme.clone()?;
        let listeners = config.listeners.values();
        let names: BTreeSet<String> = listeners
            .filter_map(|listener| listener.acme_names.clone())
            .flatten()
            .collect();
        if names.is_empty() {
            return None;
        }
        let plain = config.listeners.values().any(|it| !it.is_tls());
        let answered = |it: &Challenge| plain || *it != Challenge::Http01;
        // The config has checked that some listener answers one of them.
        let challenges = acme.challenges.iter().copied().filter(answered).collect();
        Some(Self {
            acme,
            names,
            challenges,
        })
    }

    /// The challenge of an attempt: the next of them after each failure, since
    /// a port that is closed to the CA stays closed.
    pub(super) fn challenge(&self, failures: u32) -> Challenge {
        let at = failures as usize % self.challenges.len().max(1);
        let tried = self.challenges.get(at).copied();
        tried.unwrap_or(Challenge::TlsAlpn01)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_text;

    fn wanted(listeners: &str, acme: &str, routes: &str) -> Option<Wanted> {
        let text = format!(
            "{listeners}\n{routes}\n[upstreams.app]\nbackends = [{{ address = 'a:1' }}]\n{acme}"
        );
        Wanted::of(&parse_text(&text).unwrap_or_else(|found| panic!("{found}\nin\n{text}")))
    }

    const TLS: &str = "[listeners.tls]\naddress = '[::]:443'\ncertificates = 'acme'\n";
    const PLAIN: &str = "[listeners.plain]\naddress = '[::]:80'\n";
    const ACME: &str = "[acme]\nagree_to_terms = true\n";
    const ROUTES: &str = "[[routes]]\nhost = 'B.test'\nupstream = 'app'\n\
        [[routes]]\nhost = 'a.test'\nupstream = 'app'\n\
        [[routes]]\nhost = 'a.test'\npath = '/x'\nupstream = 'app'\n\
        [[routes]]\nhost = '192.0.2.1'\nupstream = 'app'\n\
        [[routes]]\nupstream = 'app'\n";

    #[test]
    fn the_hosts_of_the_routes_or_what_the_listener_says() {
        let found = wanted(TLS, ACME, ROUTES).unwrap();
        let names: Vec<&str> = found.names.iter().map(String::as_str).collect();
        assert_eq!(names, ["a.test", "b.test"]);
        let said = format!("{TLS}acme_names = ['C.test', 'c.test']\n");
        let found = wanted(&said, ACME, ROUTES).unwrap();
        assert_eq!(found.names, BTreeSet::from(["c.test".to_owned()]));
        assert_eq!(wanted(PLAIN, "", ROUTES), None);
    }

    #[test]
    fn only_what_a_listener_answers_is_tried_and_each_in_its_turn() {
        use Challenge::{Http01, TlsAlpn01};
        let both = wanted(&format!("{TLS}{PLAIN}"), ACME, ROUTES).unwrap();
        let tried: Vec<_> = (0..3).map(|failures| both.challenge(failures)).collect();
        assert_eq!(tried, [Http01, TlsAlpn01, Http01]);
        let alone = wanted(TLS, ACME, ROUTES).unwrap();
        assert_eq!(
            [alone.challenge(0), alone.challenge(1)],
            [TlsAlpn01, TlsAlpn01]
        );
        let acme = format!("{ACME}challenges = ['http-01']\n");
        let one = wanted(&format!("{TLS}{PLAIN}"), &acme, ROUTES).unwrap();
        assert_eq!([one.challenge(0), one.challenge(1)], [Http01, Http01]);
    }
}
