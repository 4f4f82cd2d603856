//! Chromium, driven over WebDriver: started, looked at, and ended whatever happens.
#![expect(clippy::unwrap_used, reason = "what goes wrong here fails a test")]
#![expect(clippy::print_stdout, reason = "a test that is skipped says so")]
#![expect(clippy::disallowed_methods, reason = "a browser runs on real time and in the real environment")]

use fantoccini::wd::{Capabilities, WebDriverCompatibleCommand};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{env, fs};
use url::Url;

const CHROMEDRIVER: &str = "/usr/bin/chromedriver";
const CHROMIUM: &str = "/usr/bin/chromium";

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Desktop, and a phone held upright.
const SIZES: [(&str, u32, u32); 2] = [("desktop", 1200, 900), ("phone", 360, 740)];

/// The processes, by whom they were started. Dropping it ends them.
struct Processes {
    chromedriver: Child,
    profile: PathBuf,
}

impl Drop for Processes {
    fn drop(&mut self) {
        // The driver's own browser knows the profile by its path, which is nobody else's.
        let profile = self.profile.to_string_lossy().into_owned();
        let _ = self.chromedriver.kill();
        let _ = self.chromedriver.wait();
        for pid in fs::read_dir("/proc").unwrap().flatten() {
            let cmdline = fs::read(pid.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&cmdline).contains(&profile) {
                let _ = Command::new("kill").arg("-KILL").arg(pid.file_name()).stderr(Stdio::null()).status();
            }
        }
        let _ = fs::remove_dir_all(&self.profile);
    }
}

pub(crate) struct Browser {
    pub(crate) client: Client,
    screenshots: Option<PathBuf>,
    _processes: Processes,
}

/// A browser without scripts, to see that the pages need none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scripts {
    On,
    Off,
}

impl Browser {
    /// `None` where no browser is installed, unless `REQUIRE` names it.
    pub(crate) async fn start(scripts: Scripts) -> Option<Self> {
        if let Some(missing) = [CHROMEDRIVER, CHROMIUM].iter().find(|program| !Path::new(program).exists()) {
            let required = env::var("REQUIRE").unwrap_or_default();
            assert!(!required.contains("chromium"), "{missing} is required and missing");
            println!("SKIPPED: {missing} is missing");
            return None;
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let profile = env::temp_dir().join(format!("entra-broker-browser-{}-{number}", std::process::id()));
        fs::create_dir_all(&profile).unwrap();
        let mut chromedriver = Command::new(CHROMEDRIVER)
            .arg("--port=0")
            .env("HOME", &profile)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = chromedriver.stdout.take().unwrap();
        let processes = Processes { chromedriver, profile };
        let port = port(stdout).await;
        let mut capabilities = capabilities(&processes.profile, scripts);
        capabilities.insert("acceptInsecureCerts".to_owned(), json!(true));
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities);
        let client = builder.connect(&format!("http://127.0.0.1:{port}")).await.unwrap();
        let screenshots = env::var_os("SCREENSHOTS").map(PathBuf::from);
        Some(Self { client, screenshots, _processes: processes })
    }

    /// Waits until a page with this heading is there, and looks at it: on a phone nothing may stand out to the side.
    pub(crate) async fn sees(&self, heading: &str, name: &str) {
        self.waits_for(heading).await;
        for scheme in ["light", "dark"] {
            let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
            self.cdp("Emulation.setEmulatedMedia", media).await;
            for (device, width, height) in SIZES {
                let metrics =
                    json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
                self.cdp("Emulation.setDeviceMetricsOverride", metrics).await;
                let layout = self.cdp("Page.getLayoutMetrics", json!({})).await;
                let content = layout["cssContentSize"]["width"].as_f64().unwrap();
                assert!(content <= f64::from(width), "{heading} is {content} wide on {width}");
                self.keep(&format!("{name}-{device}-{scheme}.png")).await;
            }
        }
    }

    pub(crate) async fn waits_for(&self, heading: &str) {
        let xpath = format!("//h1[starts-with(., \"{heading}\")]");
        let found = self.client.wait().at_most(PATIENCE).for_element(Locator::XPath(&xpath)).await;
        if let Err(error) = found {
            let source = self.client.source().await.unwrap_or_default();
            panic!("no {heading:?}: {error}\n{source}");
        }
    }

    async fn keep(&self, name: &str) {
        if let Some(folder) = &self.screenshots {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join(name), self.client.screenshot().await.unwrap()).unwrap();
        }
    }

    /// Fills in a field by its label's text, as a person finds it.
    pub(crate) async fn fill(&self, label: &str, text: &str) {
        let xpath = format!("//input[@id=//label[starts-with(., \"{label}\")]/@for]");
        let field = self.client.find(Locator::XPath(&xpath)).await.unwrap();
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    pub(crate) async fn press(&self, button: &str) {
        let xpath = format!("//button[starts-with(normalize-space(.), \"{button}\")]");
        self.client.find(Locator::XPath(&xpath)).await.unwrap().click().await.unwrap();
    }

    /// Ticks a box by its label.
    pub(crate) async fn press_label(&self, label: &str) {
        let xpath = format!("//label[starts-with(normalize-space(.), \"{label}\")]");
        self.client.find(Locator::XPath(&xpath)).await.unwrap().click().await.unwrap();
    }

    pub(crate) async fn sign_in(&self, user: &str) {
        self.waits_for("Sign in").await;
        self.fill("User name", user).await;
        self.fill("Password", "pw").await;
        self.press("Sign in").await;
    }

    /// A command of Chromium's own protocol.
    async fn cdp(&self, command: &'static str, parameters: Value) -> Value {
        self.client.issue_cmd(Cdp { command, parameters }).await.unwrap()
    }

    pub(crate) async fn close(self) {
        let _ = self.client.clone().close().await;
    }
}

/// The driver says on which port it listens.
async fn port(stdout: impl std::io::Read + Send + 'static) -> u16 {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    // Reads on to the end, since a driver whose output nobody reads would block.
    std::thread::spawn(move || {
        let mut sender = Some(sender);
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let port = line.split("started successfully on port ").nth(1);
            let port = port.and_then(|port| port.trim_end_matches('.').parse::<u16>().ok());
            if let Some((port, sender)) = port.and_then(|port| Some((port, sender.take()?))) {
                let _ = sender.send(port);
            }
        }
    });
    tokio::time::timeout(PATIENCE, receiver).await.unwrap().unwrap()
}

fn capabilities(profile: &Path, scripts: Scripts) -> Capabilities {
    let mut options = json!({
        "binary": CHROMIUM,
        "args": [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
            format!("--user-data-dir={}", profile.join("profile").display()),
        ],
    });
    if scripts == Scripts::Off {
        options["prefs"] = json!({"profile.managed_default_content_settings.javascript": 2});
    }
    let mut capabilities = Capabilities::new();
    capabilities.insert("goog:chromeOptions".to_owned(), options);
    capabilities
}

#[derive(Debug)]
struct Cdp {
    command: &'static str,
    parameters: Value,
}

impl WebDriverCompatibleCommand for Cdp {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, url::ParseError> {
        base.join(&format!("session/{}/goog/cdp/execute", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &Url) -> (http::Method, Option<String>) {
        let body = json!({"cmd": self.command, "params": self.parameters});
        (http::Method::POST, Some(body.to_string()))
    }
}
