//! A customer's administrator, played at the emulator's pages: opens a link, signs in, and accepts.

use std::collections::BTreeMap;

use http::header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Client, RequestBuilder};
use url::{Url, form_urlencoded};

use crate::Failure;

/// The address that the browser is sent to in the end: the provider's own page.
pub(crate) async fn consents(link: &str, administrator: &str) -> Result<String, Failure> {
    let http = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
    let mut cookies = BTreeMap::new();
    let link = Url::parse(link)?;
    let mut request = http.get(link.clone());
    // Who are you? Do you accept? Then back to the provider.
    for _ in 0..4 {
        let answer = request.header(COOKIE, jar(&cookies)).send().await?;
        for cookie in answer.headers().get_all(SET_COOKIE) {
            let pair = cookie.to_str()?.split(';').next().and_then(|pair| pair.split_once('='));
            cookies.extend(pair.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        if let Some(back) = answer.headers().get(LOCATION) {
            return Ok(back.to_str()?.to_owned());
        }
        let page = String::from_utf8(answer.bytes().await?.to_vec())?;
        request = press(&http, &link, &page, administrator).ok_or("the page has no button to go on with")?;
    }
    Err("the pages do not come to an end".into())
}

fn jar(cookies: &BTreeMap<String, String>) -> String {
    cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
}

/// Sends the form that leads on, filled in.
fn press(http: &Client, link: &Url, page: &str, administrator: &str) -> Option<RequestBuilder> {
    let forms = page.split("<form").skip(1).filter_map(|form| form.split("</form>").next());
    let form = forms.into_iter().find(|form| form.contains(">Sign in<") || form.contains(">Accept<"))?;
    let mut body = form_urlencoded::Serializer::new(String::new());
    for input in form.split("<input").skip(1).filter_map(|input| input.split('>').next()) {
        match attribute(input, "name")?.as_str() {
            "username" => body.append_pair("username", administrator),
            "password" => body.append_pair("password", "any signs in"),
            other => body.append_pair(other, &attribute(input, "value").unwrap_or_default()),
        };
    }
    let action = link.join(&attribute(form.split('>').next()?, "action")?).ok()?;
    let form = "application/x-www-form-urlencoded";
    Some(http.post(action).header(CONTENT_TYPE, form).body(body.finish()))
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let value = tag.split(&format!(" {name}=\"")).nth(1)?.split('"').next()?;
    Some(value.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&"))
}
