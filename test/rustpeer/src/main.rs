//! Two people with three devices, on the unmodified matrix-rust-sdk, talk in an encrypted room of the server under test.
//!
//! `rustpeer URL sliding|sync PASSWORD USER OTHER` logs the two users in. With `sliding`, each device has the two
//! connections that Element X has: the room list, and encryption. With `sync`, it uses the older endpoint. The program
//! prints `pause` once it has got halfway, and goes on at the next line of its standard input, so that whoever started it can
//! restart the server in between. It prints `done` when everybody has read everything, and fails otherwise.

#![recursion_limit = "512"] // the futures of the SDK are deep

use std::{
    collections::HashMap,
    env,
    future::Future,
    io::{BufRead, Write, stdin, stdout},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use matrix_sdk::{
    Client, Room, RoomState,
    config::{RequestConfig, SyncSettings},
    ruma::{
        OwnedRoomId, RoomId, UserId,
        api::client::room::create_room::v3::{Request as CreateRoom, RoomPreset},
        events::{InitialStateEvent, room::encryption::RoomEncryptionEventContent, room::message::RoomMessageEventContent},
    },
    sliding_sync::VersionBuilder,
};
use matrix_sdk_ui::{
    room_list_service::RoomListLoadingState,
    sync_service::SyncService,
    timeline::{RoomExt, Timeline},
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

/// How long something may take that somebody waits for, a restart of the server included.
const WITHIN: Duration = Duration::from_secs(60);

/// Rooms of the first user besides the encrypted one: more than a client asks for at once.
const OTHER_ROOMS: usize = 24;

/// How a device syncs; it ends with the program.
enum Syncing {
    Sliding(SyncService),
    Plain(#[allow(dead_code)] JoinHandle<()>),
}

struct Device {
    name: &'static str,
    client: Client,
    syncing: Syncing,
    timelines: HashMap<OwnedRoomId, Timeline>,
}

impl Device {
    async fn log_in(name: &'static str, url: &str, sliding: bool, user: &str, password: &str) -> Result<Self> {
        let version = if sliding { VersionBuilder::DiscoverNative } else { VersionBuilder::None };
        let client = Client::builder()
            .homeserver_url(url)
            .sliding_sync_version_builder(version)
            .request_config(RequestConfig::new().timeout(WITHIN))
            .build()
            .await
            .context("build a client")?;
        client.matrix_auth().login_username(user, password).initial_device_display_name(name).send().await.context("log in")?;
        client.encryption().wait_for_e2ee_initialization_tasks().await;
        let syncing = if sliding {
            let service = SyncService::builder(client.clone()).with_offline_mode().build().await.context("build the sync service")?;
            service.start().await;
            Syncing::Sliding(service)
        } else {
            let client = client.clone();
            Syncing::Plain(tokio::spawn(async move {
                loop {
                    // It returns when the server is gone.
                    if let Err(error) = client.sync(SyncSettings::default()).await {
                        eprintln!("{name}: {error}");
                        sleep(Duration::from_millis(200)).await;
                    }
                }
            }))
        };
        Ok(Self { name, client, syncing, timelines: HashMap::new() })
    }

    fn user_id(&self) -> &UserId {
        self.client.user_id().expect("it is logged in")
    }

    /// Waits until `test` gives something.
    async fn until<T, F: Future<Output = Option<T>>>(&self, what: &str, test: impl Fn() -> F) -> Result<T> {
        let wait = async {
            loop {
                if let Some(found) = test().await {
                    return found;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(WITHIN, wait).await.with_context(|| format!("{} waited for {what}", self.name))
    }

    async fn room(&self, room_id: &RoomId, state: RoomState) -> Result<Room> {
        self.until(&format!("{room_id} as {state:?}"), || async { self.client.get_room(room_id).filter(|r| r.state() == state) }).await
    }

    /// Waits until the device knows its rooms, and how many the server says there are.
    async fn has_rooms(&self, count: usize) -> Result<()> {
        self.until(&format!("{count} rooms"), || async { (self.client.joined_rooms().len() == count).then_some(()) })
            .await
            .with_context(|| format!("it has {}", self.client.joined_rooms().len()))?;
        if let Syncing::Sliding(service) = &self.syncing {
            let list = service.room_list_service().all_rooms().await?;
            let said = || async {
                match list.loading_state().get() {
                    RoomListLoadingState::Loaded { maximum_number_of_rooms: Some(n) } => (n as usize == count).then_some(()),
                    _ => None,
                }
            };
            self.until(&format!("a list of {count} rooms"), said).await?;
        }
        Ok(())
    }

    /// Opens a room as a person does: its timeline, and a subscription.
    async fn open(&mut self, room_id: &RoomId) -> Result<()> {
        let room = self.room(room_id, RoomState::Joined).await?;
        if let Syncing::Sliding(service) = &self.syncing {
            service.room_list_service().subscribe_to_rooms(&[room_id]).await;
        }
        self.timelines.insert(room_id.to_owned(), room.timeline().await?);
        Ok(())
    }

    /// Waits until the device has heard of another one, to which it gives keys from then on.
    async fn knows(&self, other: &Device) -> Result<()> {
        let (user, device) = (other.user_id(), other.client.device_id().expect("it is logged in"));
        let found = || async { self.client.encryption().get_device(user, device).await.ok().flatten() };
        self.until(&format!("the device {:?}", other.name), found).await.map(drop)
    }

    async fn say(&self, room_id: &RoomId, body: &str) -> Result<()> {
        let room = self.room(room_id, RoomState::Joined).await?;
        let sent = room.send(RoomMessageEventContent::text_plain(body)).await.with_context(|| format!("{} says {body:?}", self.name))?;
        ensure!(sent.encryption_info.is_some(), "{} sent {body:?} without encryption", self.name);
        Ok(())
    }

    /// Waits for a message in an open room, and checks that it was encrypted.
    async fn sees(&self, room_id: &RoomId, body: &str) -> Result<()> {
        let timeline = self.timelines.get(room_id).context("the room is not open")?;
        let (_, mut changes) = timeline.subscribe().await;
        let wait = async {
            loop {
                for item in timeline.items().await {
                    let Some(event) = item.as_event() else { continue };
                    if event.content().as_message().is_some_and(|m| m.body() == body) && !event.is_local_echo() {
                        ensure!(event.encryption_info().is_some(), "{} sees {body:?} unencrypted", self.name);
                        return Ok(());
                    }
                }
                if changes.next().await.is_none() {
                    bail!("the timeline of {} has ended", self.name);
                }
            }
        };
        timeout(WITHIN, wait).await.with_context(|| format!("{} waited for {body:?}", self.name))?
    }
}

/// Has each device say something that all others read.
async fn talk(round: &str, room_id: &RoomId, devices: &[&Device]) -> Result<()> {
    for from in devices {
        let body = format!("{} says hello {round}", from.name);
        from.say(room_id, &body).await?;
        for to in devices {
            to.sees(room_id, &body).await?;
        }
    }
    Ok(())
}

fn pause() -> Result<()> {
    println!("pause");
    stdout().flush()?;
    stdin().lock().read_line(&mut String::new())?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [url, mode, password, first, second] = args.as_slice() else { bail!("usage: rustpeer URL sliding|sync PASSWORD USER OTHER") };
    let sliding = match mode.as_str() {
        "sliding" => true,
        "sync" => false,
        _ => bail!("the mode is {mode}, not sliding or sync"),
    };

    let mut ada = Device::log_in("ada", url, sliding, first, password).await?;
    let mut bob = Device::log_in("bob", url, sliding, second, password).await?;
    let mut request = CreateRoom::new();
    request.preset = Some(RoomPreset::PrivateChat);
    request.name = Some("rustpeer".to_owned());
    request.invite = vec![bob.user_id().to_owned()];
    request.initial_state = vec![InitialStateEvent::with_empty_state_key(RoomEncryptionEventContent::with_recommended_defaults()).to_raw_any()];
    let room_id = ada.client.create_room(request).await?.room_id().to_owned();
    bob.room(&room_id, RoomState::Invited).await?.join().await?;
    let room = ada.room(&room_id, RoomState::Joined).await?;
    ada.until("bob in the room", || async { (room.joined_members_count() == 2).then_some(()) }).await?;
    ada.open(&room_id).await?;
    bob.open(&room_id).await?;
    talk("at first", &room_id, &[&ada, &bob]).await?;

    for n in 0..OTHER_ROOMS {
        let mut request = CreateRoom::new();
        request.name = Some(format!("room {n}"));
        ada.client.create_room(request).await?;
    }
    ada.has_rooms(OTHER_ROOMS + 1).await?;
    talk("with more rooms", &room_id, &[&ada, &bob]).await?;

    tokio::task::spawn_blocking(pause).await??;
    talk("after the pause", &room_id, &[&ada, &bob]).await?;

    let mut again = Device::log_in("ada again", url, sliding, first, password).await?;
    again.has_rooms(OTHER_ROOMS + 1).await?;
    again.open(&room_id).await?;
    let name = again.room(&room_id, RoomState::Joined).await?.name();
    ensure!(name.as_deref() == Some("rustpeer"), "the second device calls the room {name:?}");
    ada.knows(&again).await?;
    bob.knows(&again).await?;
    talk("with a second device", &room_id, &[&ada, &bob, &again]).await?;
    println!("done");
    Ok(())
}
