//! The error object of a NestJS responder, as far as a caller needs it; all of JSON is left to others.

/// The string that the outermost object has as `message`, the last if there are several.
pub(crate) fn nest_message(json: &str) -> Option<String> {
    let mut rest = json.trim().strip_prefix('{')?.strip_suffix('}')?;
    let (mut depth, mut found) = (0_usize, None);
    while let Some(at) = rest.find(['"', '{', '[', '}', ']']) {
        let mark = rest.as_bytes()[at];
        rest = &rest[at + 1..];
        match mark {
            b'"' => {}
            b'{' | b'[' => {
                depth += 1;
                continue;
            }
            _ => {
                depth = depth.checked_sub(1)?;
                continue;
            }
        }
        let text = string(&mut rest)?;
        // Behind a key comes a colon, behind a value there is none.
        let Some(value) = rest.trim_start().strip_prefix(':') else { continue };
        if depth == 0 && text == "message" {
            found = None;
            if let Some(value) = value.trim_start().strip_prefix('"') {
                rest = value;
                found = Some(string(&mut rest)?);
            }
        }
    }
    found.filter(|_| depth == 0)
}

/// Reads the rest of a string, up to and with its closing quote.
fn string(rest: &mut &str) -> Option<String> {
    let mut text = String::new();
    loop {
        let (plain, behind) = rest.split_at(rest.find(['"', '\\'])?);
        text.push_str(plain);
        let mut characters = behind.chars();
        if characters.next() == Some('"') {
            *rest = characters.as_str();
            return Some(text);
        }
        let escaped = characters.next()?;
        *rest = characters.as_str();
        text.push(match escaped {
            '"' | '\\' | '/' => escaped,
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' => {
                let first = unit(rest)?;
                // A pair of units, if the first says so; half a pair is replaced.
                let pair = (0xd800..0xdc00).contains(&first).then(|| rest.strip_prefix("\\u")).flatten();
                let second = match pair {
                    Some(behind) => {
                        *rest = behind;
                        Some(unit(rest)?)
                    }
                    None => None,
                };
                let units = std::iter::once(first).chain(second);
                text.extend(
                    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)),
                );
                continue;
            }
            _ => return None,
        });
    }
}

/// Four digits of base 16.
fn unit(rest: &mut &str) -> Option<u16> {
    let (digits, behind) = rest.split_at_checked(4)?;
    *rest = behind;
    // A sign would be taken for a digit.
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::super::reply::nest_error;
    use super::nest_message;

    #[test]
    fn what_we_write_for_nest_is_read_again() {
        for message in ["boom", "", "say \"no\" \\ /\n\r\t\u{1} ü 😀", "}{][:", "{\"message\":\"inner\"}"]
        {
            assert_eq!(nest_message(&nest_error(message)).as_deref(), Some(message));
        }
    }

    #[test]
    fn only_a_message_of_the_outermost_object_counts() {
        let cases = [
            (r#" { "message" : "a" , "status" : 3 } "#, Some("a")),
            (r#"{"error":{"message":"inner"},"x":["message"],"message":"outer"}"#, Some("outer")),
            (r#"{"error":{"message":"inner"}}"#, None),
            (r#"{"status":"message"}"#, None),
            (r#"{"message":["a","b"]}"#, None),
            (r#"{"message":"\u00fc\ud83d\ude00\ud83d"}"#, Some("ü😀\u{fffd}")),
            ("There is no matching message handler defined in the remote service.", None),
            (r#""message""#, None),
            ("{", None),
            ("{}", None),
            ("{]}", None),
            (r#"{"message":"open}"#, None),
            (r#"{"message":"\u00"}"#, None),
            (r#"{"message":"\u+0ab"}"#, None),
            (r#"{"message":"\"}"#, None),
        ];
        for (json, message) in cases {
            assert_eq!(nest_message(json).as_deref(), message, "{json}");
        }
    }
}
