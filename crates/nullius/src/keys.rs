//! `nullius hub keys`: what an operator does with the hub's keys, beside its state directory.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result, anyhow};
use nullius_cli::{
    Chain, Exit, HubKeysCommand, HubKeysExport, HubKeysRotate, OfflinePassphrase, ResultForm,
    ask_secret,
};
use nullius_hub::{Before, HubSettings, KeyInventory, Rotation, Uptake};
use nullius_model::{SystemClock, Timestamp};
use nullius_pki::{OfflineKeyError, OfflineKeyFile};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::config::Misconfigured;

/// What is asked at a terminal where no passphrase was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asks {
    /// A passphrase for a file that is to be made, twice; an empty one for none.
    ToSeal,
    /// The passphrase of a file that is sealed.
    ToOpen,
}

/// Does what was asked for.
pub(crate) async fn run(
    settings: &HubSettings,
    command: HubKeysCommand,
    form: ResultForm,
) -> Result<Exit> {
    match command {
        HubKeysCommand::List => list(settings, form).await,
        HubKeysCommand::Rotate(args) => rotate(settings, args, form).await,
        HubKeysCommand::Export(args) => export(settings, args, form).await,
    }
}

async fn list(settings: &HubSettings, form: ResultForm) -> Result<Exit> {
    let inventory = nullius_hub::list_keys(settings, Arc::new(SystemClock)).await?;
    if form == ResultForm::Json {
        println!("{}", as_json(&inventory));
        return Ok(Exit::Ok);
    }
    print!("{}", as_table(&inventory, Timestamp::now()));
    if inventory.offline_in_store {
        eprintln!(
            "the offline key lies in the store: whoever copies the state directory with what opens it can make \
             agents trust another signer; carry it away: `nullius hub keys export FILE`"
        );
    }
    if inventory.change_waits {
        eprintln!("a change of keys waits: the hub takes it in when it starts");
    }
    Ok(Exit::Ok)
}

fn as_json(inventory: &KeyInventory) -> Value {
    let keys = inventory.keys.iter().map(|key| {
        json!({
            "name": key.name, "id": key.id, "state": key.state, "until": key.until,
            "place": key.place,
        })
    });
    json!({
        "apiVersion": "nullius.dev/v1alpha1",
        "kind": "HubKeyList",
        "hubId": inventory.hub_id,
        "keySetRevision": inventory.revision,
        "offlineKeyInStore": inventory.offline_in_store,
        "changeWaits": inventory.change_waits,
        "items": keys.collect::<Vec<_>>(),
    })
}

fn as_table(inventory: &KeyInventory, now: Timestamp) -> String {
    let titles = ["KEY", "STATE", "ENDS", "LIES", "ID"].map(str::to_owned);
    let rows = inventory.keys.iter().map(|key| {
        let ends = key.until.map_or_else(|| "-".to_owned(), |until| days(until, now));
        [key.name.to_owned(), key.state.clone(), ends, key.place.to_owned(), key.id.clone()]
    });
    let rows: Vec<[String; 5]> = std::iter::once(titles).chain(rows).collect();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..5).map(width).collect();
    let line = |row: &[String; 5]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn days(until: Timestamp, now: Timestamp) -> String {
    match (until.as_second() - now.as_second()) / 86_400 {
        ..0 => "has ended".to_owned(),
        0 => "today".to_owned(),
        days => format!("in {days}d"),
    }
}

async fn rotate(settings: &HubSettings, args: HubKeysRotate, form: ResultForm) -> Result<Exit> {
    let file = match args.offline_key {
        None => None,
        Some(path) => Some(offline_file(path, &args.passphrase, Asks::ToOpen).await?),
    };
    let before = if args.compromised { Before::Ends } else { Before::Overlaps };
    let rotation = Rotation { after: args.after, valid_for: args.valid_for, before };
    let clock = Arc::new(SystemClock);
    let done = nullius_hub::rotate_keys(settings, file.as_ref(), rotation, clock).await?;
    if form == ResultForm::Json {
        let text = json!({
            "apiVersion": "nullius.dev/v1alpha1",
            "kind": "HubKeyRotation",
            "keySetRevision": done.revision,
            "signer": done.signer,
            "signsFrom": done.from,
            "until": done.until,
            "takenIn": done.uptake == Uptake::TakenIn,
        });
        println!("{text}");
        return Ok(Exit::Ok);
    }
    println!("key set {} names the signer `{}` until {}", done.revision, done.signer, done.until);
    match done.uptake {
        Uptake::TakenIn => {
            println!("the hub has it and tells its agents; it signs from {} on", done.from)
        }
        Uptake::AtStart => println!("the hub does not run: it takes the change in when it starts"),
    }
    Ok(Exit::Ok)
}

async fn export(settings: &HubSettings, args: HubKeysExport, form: ResultForm) -> Result<Exit> {
    let file = offline_file(args.file, &args.passphrase, Asks::ToSeal).await?;
    let uptake = nullius_hub::export_offline_key(settings, &file, Arc::new(SystemClock)).await?;
    let path = file.path.display();
    if form == ResultForm::Json {
        let text = json!({
            "apiVersion": "nullius.dev/v1alpha1",
            "kind": "HubKeyExport",
            "file": path.to_string(),
            "sealed": file.passphrase.is_some(),
            "takenIn": uptake == Uptake::TakenIn,
        });
        println!("{text}");
        return Ok(Exit::Ok);
    }
    match uptake {
        Uptake::TakenIn => println!("the offline key is in `{path}`, and the hub has forgotten it"),
        Uptake::AtStart => println!(
            "the offline key is in `{path}`; the hub does not run, and forgets it when it starts"
        ),
    }
    eprintln!(
        "keep the file, and a copy, elsewhere; backups of the state that were made before still hold the key"
    );
    Ok(Exit::Ok)
}

/// The file of an offline key with what opens it, asked for at a terminal where it was not given.
pub(crate) async fn offline_file(
    path: PathBuf,
    given: &OfflinePassphrase,
    asks: Asks,
) -> Result<OfflineKeyFile> {
    let told = |failure: nullius_cli::Failure| anyhow!(failure.lines(Chain::Hidden));
    let mut file = OfflineKeyFile { path, passphrase: passphrase(given)? };
    if file.passphrase.is_some() {
        return Ok(file);
    }
    let sealed = matches!(file.read(), Err(OfflineKeyError::NeedsPassphrase(_)));
    if sealed {
        let answer = ask_secret("passphrase of the offline key: ").await.map_err(told)?;
        file.passphrase = answer.map(SecretString::from);
    } else if asks == Asks::ToSeal && !file.path.exists() {
        let question = "passphrase to seal the offline key with (empty for none): ";
        let answer = ask_secret(question).await.map_err(told)?.filter(|text| !text.is_empty());
        if let Some(text) = answer {
            let again = ask_secret("once more: ").await.map_err(told)?;
            if again.as_deref() != Some(text.as_str()) {
                return Err(anyhow!("the two passphrases differ").context(Misconfigured));
            }
            file.passphrase = Some(text.into());
        }
    }
    Ok(file)
}

fn passphrase(given: &OfflinePassphrase) -> Result<Option<SecretString>> {
    if let Some(file) = &given.offline_key_passphrase_file {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read `{}`", file.display()))
            .context(Misconfigured)?;
        return Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned().into()));
    }
    Ok(std::env::var("NULLIUS_OFFLINE_KEY_PASSPHRASE").ok().map(SecretString::from))
}
