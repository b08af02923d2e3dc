//! `[admin]`: where operators are answered, and who they are.

use std::net::SocketAddr;

use super::diagnostic::WrittenAt;
use super::listeners::pairs;
use super::model::Admin;
use super::named_files::NamedFiles;
use super::operators::{AdminClients, certified_operators, operators};
use super::section::{Section, Value, Wrong, has_no_effect};
use super::value::{mode, path, socket_path, text, wrong, wrong_near};

/// What is of no use without TCP.
const OF_TCP: [&str; 4] = [
    "token_file",
    "read_token_file",
    "certificates",
    "client_certificates",
];

const PAIRS: &str = "an array of { chain = \"FILE\", key = \"FILE\" }";

/// `None` if there is no usable address in it.
pub(super) fn admin(section: Section<'_>, files: &mut NamedFiles) -> Option<Admin> {
    let socket = section.optional("socket", |value| {
        let written = text(value, "the path of a socket")?;
        socket_path(value, written.strip_prefix("unix:").unwrap_or(written))
    });
    let key = match section.value("socket") {
        Some(_) => "socket",
        None => "listen",
    };
    let admin = Admin {
        socket,
        mode: section.or("mode", 0o600, mode),
        operators: operators(&section),
        listen: section.optional("listen", listen),
        certificates: pairs(&section, files, PAIRS),
        client_certificates: client_certificates(&section, files),
        token_file: section.optional("token_file", path),
        read_token_file: section.optional("read_token_file", path),
        place: WrittenAt(section.place_of(key)),
    };
    let written = |key| section.value(key).is_some();
    if !written("listen") {
        for key in OF_TCP {
            has_no_effect(&section, key, "`listen`");
        }
    } else if !written("certificates") {
        has_no_effect(&section, "client_certificates", "`certificates`");
    }
    match (written("socket"), written("listen")) {
        (false, false) => section.missing("socket"),
        (false, true) => {
            for key in ["mode", "operators"] {
                has_no_effect(&section, key, "`socket`");
            }
        }
        (true, _) => {}
    }
    // A port on loopback is open to every user and program of the machine.
    let asks = ["token_file", "read_token_file", "client_certificates"];
    if admin.listen.is_some() && !asks.into_iter().any(written) {
        let message = "`listen` in [admin] needs a `token_file`, a `read_token_file` or \
                       `client_certificates`: whoever reaches the port could ask for everything";
        section.report("listen", message.to_owned());
    }
    section.finish();
    (admin.socket.is_some() || admin.listen.is_some()).then_some(admin)
}

fn client_certificates(section: &Section<'_>, files: &mut NamedFiles) -> Option<AdminClients> {
    let allowed = "a table such as { ca = \"FILE\", operators = [\"subject:CN=alice\"] }";
    let table = section.subsection("client_certificates", allowed)?;
    let ca = table.required("ca", path);
    if let (Some(ca), Some(value)) = (&ca, table.value("ca")) {
        files.add(ca, value.place());
    }
    let operators = certified_operators(&table);
    table.finish();
    Some(AdminClients { ca: ca?, operators })
}

fn listen(value: &Value<'_>) -> Result<SocketAddr, Wrong> {
    let allowed = "an IP address and port such as \"127.0.0.1:9000\" or \"[::1]:9000\"";
    let written = text(value, allowed)?;
    match (written.parse(), written.rsplit_once(':')) {
        (Ok(address), _) => Ok(address),
        (Err(_), Some(("localhost" | "", port))) if port.parse::<u16>().is_ok() => {
            wrong_near(value, allowed, Some(format!("127.0.0.1:{port}")))
        }
        _ => wrong(value, allowed),
    }
}
