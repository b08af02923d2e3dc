use longhaul::fuzzing::{certificates, private_key};

/// PEM files: lines around the sections change nothing, a file and itself once
/// more have twice as many, and one that was cut off never has more.
pub fn pem(data: &[u8]) {
    let framed = [b"a line before\n", data, b"\na line behind\n"].concat();
    let twice = [data, b"\n", data].concat();
    if let Ok(count) = certificates(data) {
        assert!(count > 0);
        assert_eq!(certificates(&framed).ok(), Some(count));
        assert_eq!(certificates(&twice).ok(), Some(2 * count));
        let left = certificates(&data[..data.len() / 2]);
        assert!(left.is_err() || left.is_ok_and(|left| left <= count));
    }
    if let Ok(key) = private_key(data) {
        assert_eq!(private_key(&framed).ok(), Some(key));
        assert!(private_key(&twice).is_err(), "two keys are one too many");
    }
}
