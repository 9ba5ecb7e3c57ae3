//! W3C trace context: whether what came in headers is one.

pub(crate) const PARENT: &str = "traceparent";
pub(crate) const STATE: &str = "tracestate";

/// The most members and bytes of a `tracestate` that are passed on.
const MAX_MEMBERS: usize = 32;
const MAX_STATE: usize = 512;

/// `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`, in lower case and neither id all zeroes. Later versions may say more behind it.
pub(crate) fn parent(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.is_ascii())?;
    let (known, rest) = text.split_at_checked(55)?;
    let mut parts = known.split('-');
    for (length, may_be_zero) in [(2, true), (32, false), (16, false), (2, true)] {
        let part = parts.next().filter(|part| part.len() == length)?;
        let is_hex = part.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        if !is_hex || !may_be_zero && part.bytes().all(|digit| digit == b'0') {
            return None;
        }
    }
    let whole = match &known[..2] {
        "00" => rest.is_empty(),
        "ff" => false,
        _ => rest.is_empty() || rest.starts_with('-'),
    };
    whole.then_some(text)
}

/// `key=value` pairs between commas, in printable ASCII; they mean something only beside a `traceparent`.
pub(crate) fn state(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty() && text.len() <= MAX_STATE)?;
    let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
    let mut members = text.split(',').map(str::trim);
    let pairs = members.clone().count() <= MAX_MEMBERS
        && members.all(|member| {
            member.is_empty() || member.split_once('=').is_some_and(|(key, _)| !key.is_empty())
        });
    (printable && pairs).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_parent_is_one() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(parent(good.as_bytes()), Some(good));
        let later = format!("01{}-more", &good[2..]);
        assert_eq!(parent(later.as_bytes()), Some(&*later));
        let bad = [
            String::new(),
            good[..54].to_owned(),
            format!("{good}0"),
            format!("{good}-more"),
            format!("ff{}", &good[2..]),
            good.to_uppercase(),
            good.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            good.replace("b7ad6b7169203331", &"0".repeat(16)),
            good.replace("-b7", "b-7"),
            good.replace("b7", "ü"),
        ];
        for bad in bad {
            assert_eq!(parent(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(parent(&[0xff; 55]), None);
    }

    #[test]
    fn a_state_is_pairs() {
        for good in ["a=1", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "a=1, ,b="] {
            assert_eq!(state(good.as_bytes()), Some(good));
        }
        let long = format!("a={}", "1".repeat(MAX_STATE));
        let many = ["a=1"; MAX_MEMBERS + 1].join(",");
        for bad in ["", "a", "=1", "a=\n", &long, &many] {
            assert_eq!(state(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
