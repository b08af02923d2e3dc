//! What each key means.
//!
//! Invariant: nothing is done to a backend or a tunnel before a question has been
//! answered with `y`.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};

use super::super::table::word;
use super::asker::Order;
use super::screen::{Question, Screen, Tab};
use crate::admin::Endpoint;

/// Lines of a page.
const PAGE: isize = 10;
/// Characters of a search.
const MOST_TYPED: usize = 100;

/// What comes after a key.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    Stay,
    Leave,
    Order(Order),
}

impl Screen {
    pub(super) fn key(&mut self, key: KeyEvent) -> Next {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        if is_control && key.code == KeyCode::Char('c') {
            return Next::Leave;
        }
        if let Some(question) = self.question.take() {
            return self.answered(key.code, question);
        }
        if self.typed.is_some() {
            return self.typing(key.code);
        }
        self.message.clear();
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Next::Leave,
            KeyCode::Char('/') => {
                self.tab = Tab::Tunnels;
                self.typed = Some(self.search.clone());
            }
            KeyCode::Char('s') => {
                self.sort = self.sort.next();
                self.sorted();
            }
            KeyCode::Char('d') => self.drain(),
            KeyCode::Char('x') => self.close(),
            code => self.moved(code),
        }
        Next::Stay
    }

    fn moved(&mut self, code: KeyCode) {
        match code {
            KeyCode::Tab | KeyCode::Right => self.tab = self.tab.next(1),
            KeyCode::BackTab | KeyCode::Left => self.tab = self.tab.next(3),
            KeyCode::Char(digit @ '1'..='4') => {
                self.tab = Tab::ALL[digit as usize - '1' as usize];
            }
            KeyCode::Down | KeyCode::Char('j') => self.go(1),
            KeyCode::Up | KeyCode::Char('k') => self.go(-1),
            KeyCode::PageDown => self.go(PAGE),
            KeyCode::PageUp => self.go(-PAGE),
            KeyCode::Home | KeyCode::Char('g') => self.go(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.go(isize::MAX),
            _ => {}
        }
    }

    fn answered(&mut self, code: KeyCode, question: Question) -> Next {
        match code {
            KeyCode::Char('y' | 'Y') => Next::Order(question.order),
            _ => {
                "nothing was done".clone_into(&mut self.message);
                Next::Stay
            }
        }
    }

    fn typing(&mut self, code: KeyCode) -> Next {
        let Some(mut text) = self.typed.take() else {
            return Next::Stay;
        };
        match code {
            KeyCode::Enter => return self.searched(text),
            KeyCode::Esc => return self.searched(String::new()),
            KeyCode::Backspace => {
                text.pop();
            }
            KeyCode::Char(c) if text.chars().count() < MOST_TYPED => text.push(c),
            _ => {}
        }
        self.typed = Some(text);
        Next::Stay
    }

    fn searched(&mut self, text: String) -> Next {
        self.search.clone_from(&text);
        self.state().select(Some(0));
        Next::Order(Order::Search(text))
    }

    /// The backend that is chosen: out, or back.
    fn drain(&mut self) {
        let Some((upstream, backend)) = self.chosen_backend() else {
            return;
        };
        let is_out = backend["state"] == "draining";
        let (name, tunnels) = (word(&backend["name"]), word(&backend["tunnels"]));
        let (text, state, done) = match is_out {
            true => (
                format!("take {name} back?"),
                "config",
                format!("{name} is back"),
            ),
            false => (
                format!("drain {name}? its {tunnels} tunnels are closed at the pace of the config"),
                "draining",
                format!("{name} is draining"),
            ),
        };
        let body =
            json!({ "upstream": upstream["name"], "backend": backend["name"], "state": state });
        self.ask(text, Endpoint::SetBackend, body, done);
    }

    /// The tunnel that is chosen, or those of the backend that is.
    fn close(&mut self) {
        let at = self.at();
        if self.tab == Tab::Tunnels {
            let Some(tunnel) = self.tunnels.list.get(at) else {
                return;
            };
            let (id, client) = (word(&tunnel["id"]), word(&tunnel["client"]));
            let (text, body) = (
                format!("close tunnel {id} of {client}?"),
                json!({ "id": tunnel["id"] }),
            );
            return self.ask(
                text,
                Endpoint::CloseTunnels,
                body,
                format!("tunnel {id} is told to close"),
            );
        }
        let Some((upstream, backend)) = self.chosen_backend() else {
            return;
        };
        let (name, tunnels) = (word(&backend["name"]), word(&backend["tunnels"]));
        let text = format!("close the {tunnels} tunnels of {name} at the pace of the config?");
        let body = json!({ "upstream": upstream["name"], "backend": backend["name"] });
        self.ask(
            text,
            Endpoint::CloseTunnels,
            body,
            format!("tunnels of {name}"),
        );
    }

    fn chosen_backend(&self) -> Option<(Value, Value)> {
        let chosen = self.backends().nth(self.at());
        let chosen = chosen.filter(|_| self.tab == Tab::Backends)?;
        Some((chosen.0.clone(), chosen.1.clone()))
    }

    fn ask(&mut self, text: String, endpoint: Endpoint, body: Value, name: String) {
        if !self.is_operator {
            self.message = format!("{} may only read", self.who);
            return;
        }
        let order = Order::Post {
            endpoint,
            body,
            name,
        };
        self.question = Some(Question { text, order });
    }
}

#[cfg(test)]
mod tests {
    use super::super::asker::{Told, Tunnels};
    use super::*;

    fn screen(role: &str) -> Screen {
        let mut screen = Screen::new(&json!({ "who": "uid:7", "role": role }));
        let backends = json!([{ "name": "b", "state": "active", "tunnels": 3 }]);
        let live = json!({ "pid": 1, "at_unix_ms": 1, "upstreams": [{ "name": "u", "backends": backends }] });
        let list = [(7, 10), (8, 20)];
        let list = list.map(|(id, age)| json!({ "id": id, "client": "c", "age_seconds": age }));
        let tunnels = Tunnels {
            list: list.to_vec(),
            ..Tunnels::default()
        };
        screen.hear(Told::Now { live, tunnels });
        screen
    }

    fn press(screen: &mut Screen, keys: &str) -> Next {
        let code = |c: char| match c {
            '\n' => KeyCode::Enter,
            '\u{1b}' => KeyCode::Esc,
            c => KeyCode::Char(c),
        };
        let press = |c| screen.key(KeyEvent::new(code(c), KeyModifiers::NONE));
        keys.chars().map(press).last().unwrap()
    }

    #[test]
    fn nothing_is_done_without_a_yes() {
        for (keys, endpoint) in [
            ("d", Endpoint::SetBackend),
            ("x", Endpoint::CloseTunnels),
            ("2x", Endpoint::CloseTunnels),
        ] {
            for no in ["n", "\u{1b}", "\n", "d", "q"] {
                let mut screen = screen("operator");
                assert_eq!(press(&mut screen, keys), Next::Stay);
                assert!(screen.question.is_some());
                assert_eq!(press(&mut screen, no), Next::Stay, "{keys} {no:?}");
                assert!(screen.question.is_none());
            }
            let mut screen = screen("operator");
            let Next::Order(Order::Post {
                endpoint: asked, ..
            }) = press(&mut screen, &format!("{keys}y"))
            else {
                panic!("{keys}: nothing is done");
            };
            assert_eq!(asked, endpoint);
        }
    }

    #[test]
    fn a_reader_is_not_even_asked() {
        for keys in ["d", "x", "2x"] {
            let mut screen = screen("reader");
            assert_eq!(press(&mut screen, &format!("{keys}y")), Next::Stay);
            press(&mut screen, keys);
            assert!(screen.question.is_none());
            assert_eq!(screen.message, "uid:7 may only read");
        }
    }

    #[test]
    fn what_is_typed_is_searched_for_and_means_no_key() {
        let mut screen = screen("operator");
        let order = press(&mut screen, "/qd\n");
        assert_eq!(order, Next::Order(Order::Search("qd".to_owned())));
        assert_eq!((screen.tab, screen.search.as_str()), (Tab::Tunnels, "qd"));
        let order = press(&mut screen, "/\u{1b}");
        assert_eq!(order, Next::Order(Order::Search(String::new())));
        assert_eq!(press(&mut screen, "q"), Next::Leave);
    }

    #[test]
    fn the_chosen_tunnel_stays_chosen_when_the_order_changes() {
        let mut screen = screen("operator");
        press(&mut screen, "2");
        assert_eq!(screen.tunnels.list[0]["id"], 8);
        press(&mut screen, "jx");
        assert_eq!(screen.question.take().unwrap().text, "close tunnel 7 of c?");
        let list = [(7, 40), (9, 5)].map(|(id, age)| json!({ "id": id, "age_seconds": age }));
        let tunnels = Tunnels {
            list: list.to_vec(),
            ..Tunnels::default()
        };
        screen.hear(Told::Now {
            live: json!({}),
            tunnels,
        });
        assert_eq!(screen.at(), 0);
    }
}
