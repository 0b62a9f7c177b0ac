//! The page at `/`: one HTML file, with a policy that lets it run and load nothing but what stands in it.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::IntoResponse;
use base64::prelude::{BASE64_STANDARD, Engine};
use sha2::{Digest, Sha256};

const HTML: &str = include_str!("page.html");

/// Content Security Policy Level 3: the one script and the one style by their hashes, the daemon's own answers, the empty
/// icon. It may stand in nobody's frame.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |tag| {
        let digest = Sha256::digest(between(HTML, tag).unwrap_or_default());
        format!("'sha256-{}'", BASE64_STANDARD.encode(digest))
    };
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style")
    )
});

/// The answer.
pub(crate) async fn page() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, HTML)
}

/// What stands in the first element of this name, which has no attributes.
fn between<'a>(html: &'a str, tag: &str) -> Option<&'a str> {
    let (_, rest) = html.split_once(&format!("<{tag}>"))?;
    let (inside, _) = rest.split_once(&format!("</{tag}>"))?;
    Some(inside)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Names come from other nodes: the script must have no way to make them anything but text.
    #[test]
    fn it_loads_nothing_and_makes_no_html_of_text() {
        for never in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "createContextualFragment",
            "DOMParser",
            "eval(",
            "Function(",
            "javascript:",
            " src=",
            " style=",
            " onclick=",
            "@import",
            "url(",
            "https://",
        ] {
            assert!(!HTML.contains(never), "{never}");
        }
        // The name of SVG's elements is no address.
        assert_eq!(HTML.matches("http://").count(), 1);
        assert_eq!(HTML.matches("http://www.w3.org/2000/svg").count(), 1);
    }

    #[test]
    fn the_policy_names_the_one_script_and_the_one_style() {
        for tag in ["script", "style"] {
            assert_eq!(HTML.matches(&format!("<{tag}")).count(), 1);
            assert!(between(HTML, tag).unwrap().len() > 100);
        }
        assert_eq!(POLICY.matches("'sha256-").count(), 2);
        assert!(!POLICY.contains("unsafe"));
    }
}
