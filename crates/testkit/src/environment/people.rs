//! Example people: enrolled over the public API as a browser would, with a password and a one-time code.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;
use totp_rs::{Builder, Secret};

use super::Environment;
use crate::api::Api;

/// Seconds of a code (RFC 6238).
const STEP: u64 = 30;

/// A person with everything needed to sign in; for development and tests alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Person {
    /// The user name.
    pub name: String,
    /// The password.
    pub password: String,
    /// The secret of the second factor, Base32.
    pub totp_secret: String,
    /// Their groups.
    pub groups: Vec<String>,
}

impl Person {
    /// Redeems an enrolment token.
    pub fn enrol(hub: &Api, name: &str, groups: &[&str], token: &str) -> Result<Self> {
        let password = format!("{name}-has-a-long-password");
        let answer = hub.post("/v1/enrol", &json!({"token": token, "password": password}))?;
        if !answer.is_success() {
            bail!("enrolling `{name}` failed ({}): {}", answer.status, answer.text());
        }
        let secret = answer.json()?["totpSecret"].as_str().context("no secret came")?.to_owned();
        let code = earlier_code(&secret)?;
        let answer = hub.post("/v1/enrol/confirm", &json!({"token": token, "code": code}))?;
        if !answer.is_success() {
            bail!("confirming `{name}` failed ({}): {}", answer.status, answer.text());
        }
        Ok(Self {
            name: name.to_owned(),
            password,
            totp_secret: secret,
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        })
    }

    /// The code of this moment; each counts once.
    pub fn code(&self) -> Result<String> {
        totp_code(&self.totp_secret, now())
    }

    /// The code of the next step, which the hub accepts too.
    pub fn next_code(&self) -> Result<String> {
        totp_code(&self.totp_secret, now() + STEP)
    }

    /// Signs in at the terminal, in a command-line home of the person's own.
    pub fn sign_in(&self, environment: &Environment) -> Result<()> {
        self.sign_in_with(environment, &self.code()?)
    }

    /// As [`Self::sign_in`] with a code of the caller's choice.
    pub fn sign_in_with(&self, environment: &Environment, code: &str) -> Result<()> {
        let input = format!("{}\n{}\n{code}\n", self.name, self.password);
        let ca = environment.hub_ca.display().to_string();
        let args = ["login", "--hub", &environment.hub_url, "--ca", &ca, "--password-stdin"];
        environment.nullius_ok_with_input(&self.name, &args, &input).map(drop)
    }
}

/// The code of the step before, for a secret in Base32: a code counts once, and the person will want the present one to sign in.
pub fn earlier_code(secret: &str) -> Result<String> {
    wait_for_the_middle_of_a_step();
    totp_code(secret, now() - STEP)
}

/// A code of the step before is too old as soon as this step ends: with little of it left, the next is waited for.
fn wait_for_the_middle_of_a_step() {
    const NEEDED: u64 = 10;
    let left = STEP - now() % STEP;
    if left < NEEDED {
        std::thread::sleep(std::time::Duration::from_secs(left));
    }
}

/// The code of a secret (Base32) at a time in seconds.
fn totp_code(secret: &str, at: u64) -> Result<String> {
    let secret = Secret::try_from_base32(secret)
        .map_err(|error| anyhow::anyhow!("the secret is no Base32: {error}"))?;
    let totp =
        Builder::new().with_secret(secret).build().map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(totp.generate(at).to_string())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
