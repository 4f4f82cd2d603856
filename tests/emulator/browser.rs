//! A browser in memory, for the emulator's pages: it keeps cookies, reads forms and sends them.
#![expect(clippy::unwrap_used, reason = "what goes wrong here fails a test")]

use crate::support::{ask, encoded, get, post};
use bytes::Bytes;
use entra_broker::emulator::{Emulator, sample};
use http::Request;
use serde_json::Value;
use std::collections::BTreeMap;
use url::Url;

pub(crate) const AUTHORIZE: &str = "/11111111-2222-3333-4444-555555555555/oauth2/v2.0/authorize";
pub(crate) const COMMON: &str = "/common/oauth2/v2.0/authorize";

/// What the sample's web app sends to sign a user in, for a test to change.
pub(crate) fn request(changes: &[(&str, &str)]) -> String {
    request_at(AUTHORIZE, changes)
}

pub(crate) fn request_at(path: &str, changes: &[(&str, &str)]) -> String {
    let mut pairs = vec![
        ("client_id", sample::SECRET_APP),
        ("response_type", "code"),
        ("redirect_uri", sample::REDIRECT_URI),
        ("scope", "openid offline_access User.Read"),
        ("state", "s & <t>\"'"),
    ];
    for (name, value) in changes {
        pairs.retain(|(known, _)| known != name);
        if !value.is_empty() {
            pairs.push((name, value));
        }
    }
    format!("{path}?{}", encoded(&pairs))
}

#[derive(Clone)]
pub(crate) struct Browser {
    pub(crate) emulator: Emulator,
    cookies: BTreeMap<String, String>,
}

/// What the browser shows, or where it was sent.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: String,
}

#[derive(Debug)]
pub(crate) struct Form {
    pub(crate) action: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) button: String,
}

impl Browser {
    pub(crate) fn new(emulator: &Emulator) -> Self {
        Self { emulator: emulator.clone(), cookies: BTreeMap::new() }
    }

    pub(crate) async fn open(&mut self, path: &str) -> Page {
        self.send(get(path, &[])).await
    }

    pub(crate) async fn send(&mut self, mut request: Request<Bytes>) -> Page {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            request.headers_mut().insert("cookie", cookies.join("; ").parse().unwrap());
        }
        let answer = ask(&self.emulator, request).await;
        for cookie in answer.headers.get_all("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.contains("; HttpOnly; SameSite=Lax"), "{cookie}");
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        let page = Page {
            status: answer.status.as_u16(),
            headers: answer.headers,
            text: String::from_utf8(answer.body.to_vec()).unwrap(),
        };
        page.is_sound();
        page
    }

    /// Sends the form with this button, with these fields filled in.
    pub(crate) async fn press(&mut self, page: &Page, button: &str, typed: &[(&str, &str)]) -> Page {
        let forms = page.forms();
        let found = forms.iter().find(|form| form.button.starts_with(button));
        let form = found.unwrap_or_else(|| panic!("no button {button:?} in {}", page.text));
        let mut fields: Vec<(&str, &str)> =
            form.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        for (name, value) in typed {
            fields.retain(|(known, _)| known != name);
            fields.push((name, value));
        }
        self.send(post(&form.action, &fields)).await
    }

    /// Signs a user in on a page that asks for it.
    pub(crate) async fn sign_in(&mut self, page: &Page, user: &str) -> Page {
        self.press(page, "Sign in", &[("username", user), ("password", "pw")]).await
    }

    /// Opens a request, signs a user in, and presses these buttons.
    pub(crate) async fn through(&mut self, path: &str, user: &str, buttons: &[&str]) -> Page {
        let page = self.open(path).await;
        let mut page = self.sign_in(&page, user).await;
        for button in buttons {
            page = self.press(&page, button, &[]).await;
        }
        page
    }
}

impl Page {
    /// What has to be true of every page.
    #[track_caller]
    fn is_sound(&self) {
        let header = |name: &str| self.headers.get(name).map_or("", |value| value.to_str().unwrap());
        assert!(header("cache-control").contains("no-store"));
        if self.text.is_empty() {
            return;
        }
        assert!(header("content-type").starts_with("text/html"), "{}", self.text);
        assert!(header("content-security-policy").starts_with("default-src 'none'; style-src 'sha256-"));
        assert_eq!(header("x-frame-options"), "DENY");
        assert!(self.text.contains("local emulator"), "{}", self.text);
        assert!(self.text.contains("<html lang=\"en\">") && self.text.contains("width=device-width"));
        assert_eq!(self.text.matches("<h1>").count(), 1);
        for (at, _) in self.text.match_indices(" id=\"") {
            let id = self.text[at + 5..].split('"').next().unwrap();
            assert_eq!(self.text.matches(&format!(" id=\"{id}\"")).count(), 1, "{id}");
        }
        for kind in ["text", "password"] {
            for (at, _) in self.text.match_indices(&format!("<input type=\"{kind}\"")) {
                let id = attribute(tag(&self.text[at..]), "id").unwrap();
                assert!(self.text.contains(&format!("<label for=\"{id}\"")), "{id}");
            }
        }
        for outside in ["src=", "http-equiv", "@import", "url("] {
            assert!(!self.text.contains(outside), "{outside} in {}", self.text);
        }
    }

    pub(crate) fn title(&self) -> String {
        let rest = self.text.split("<h1>").nth(1).unwrap_or_default();
        unescaped(rest.split("</h1>").next().unwrap())
    }

    /// The text of the alert.
    pub(crate) fn alert(&self) -> String {
        let rest = self.text.split("role=\"alert\"").nth(1).unwrap_or_default();
        let rest = rest.split_once('>').map_or("", |(_, rest)| rest);
        unescaped(rest.split('<').next().unwrap())
    }

    pub(crate) fn forms(&self) -> Vec<Form> {
        let mut forms = Vec::new();
        for part in self.text.split("<form").skip(1) {
            let body = part.split("</form>").next().unwrap();
            let mut fields = Vec::new();
            for (at, _) in body.match_indices("<input") {
                let tag = tag(&body[at..]);
                if attribute(tag, "type").as_deref() != Some("checkbox") {
                    let value = attribute(tag, "value").unwrap_or_default();
                    fields.push((attribute(tag, "name").unwrap(), value));
                }
            }
            let button = body.rsplit("<button").next().unwrap().split_once('>').unwrap().1;
            let button = button.replace("<b>", "").split('<').next().unwrap().to_owned();
            let action = attribute(tag(part), "action").unwrap();
            forms.push(Form { action, fields, button: unescaped(&button) });
        }
        forms
    }

    pub(crate) fn buttons(&self) -> Vec<String> {
        self.forms().into_iter().map(|form| form.button).collect()
    }

    pub(crate) fn location(&self) -> Url {
        let location = self.headers.get("location");
        let location = location.unwrap_or_else(|| panic!("sent nowhere: {} {}", self.status, self.text));
        Url::parse(location.to_str().unwrap()).unwrap()
    }

    /// What the app is told, whichever way.
    pub(crate) fn callback(&self) -> BTreeMap<String, String> {
        if self.headers.get("location").is_none() {
            assert_eq!(self.title(), "Back to the app", "{}", self.text);
            return self.forms().remove(0).fields.into_iter().collect();
        }
        let location = self.location();
        let text = location.fragment().or(location.query()).unwrap_or_default();
        url::form_urlencoded::parse(text.as_bytes()).into_owned().collect()
    }

    /// Asserts an error that the app is told.
    #[track_caller]
    pub(crate) fn is_refused(&self, error: &str, code: u32) {
        let callback = self.callback();
        assert_eq!(callback.get("error").map(String::as_str), Some(error), "{callback:?}");
        let description = &callback["error_description"];
        assert!(description.starts_with(&format!("AADSTS{code}: ")), "{description}");
        assert!(description.contains(" Trace ID: ") && description.contains(" Timestamp: "), "{description}");
        assert!(callback["error_uri"].ends_with(&format!("/error?code={code}")));
        assert!(!callback.contains_key("code"));
    }

    /// Asserts an error that only the user sees.
    #[track_caller]
    pub(crate) fn is_error_page(&self, code: u32) {
        assert_eq!(self.status, 400, "{}", self.text);
        assert!(self.headers.get("location").is_none());
        assert!(self.alert().starts_with(&format!("AADSTS{code}: ")), "{}", self.alert());
        assert!(self.forms().is_empty());
    }
}

/// The code of a callback, redeemed by the sample's web app.
pub(crate) async fn redeem(emulator: &Emulator, page: &Page) -> Value {
    let callback = page.callback();
    let code = callback.get("code").unwrap_or_else(|| panic!("no code in {callback:?}"));
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", sample::SECRET_APP),
        ("client_secret", sample::SECRET),
        ("redirect_uri", sample::REDIRECT_URI),
        ("code", code),
    ];
    let answer = ask(emulator, post("/common/oauth2/v2.0/token", &form)).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()
}

fn tag(text: &str) -> &str {
    text.split('>').next().unwrap()
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let value = tag.split(&format!(" {name}=\"")).nth(1)?;
    Some(unescaped(value.split('"').next().unwrap()))
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}
