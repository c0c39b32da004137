//! Secrets that are kept elsewhere: in mounted files, in the environment.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use testkit::{FakeServer, Login, Pooler, PoolerSetup, Scratch};

use crate::support::{outcome, pgusher};

async fn asking_for(password: &str) -> FakeServer {
    let login = Login::Plain(password.to_owned());
    FakeServer::setup().login(login).start().await
}

/// A pooler whose one database has a user of its own, with this word about the password.
fn shop(fake: &FakeServer, password: &str) -> PoolerSetup {
    let conn_info = format!("{} user=clerk {password}", fake.conn_info("shop"));
    pgusher(1)
        .database("shop", &conn_info)
        .user("alice", "secret")
        .set("auth_type", "trust")
}

async fn logs_in(pooler: &Pooler) -> String {
    outcome(pooler, "alice", "", "shop").await
}

const WRONG: &str = "FATAL 28P01 password authentication failed for user \"clerk\"";

#[tokio::test]
async fn a_password_is_read_from_its_file_again_at_reload() {
    let fake = asking_for("first").await;
    let pooler = shop(&fake, "password_file={dir}/clerk").file("clerk", "first\n");
    let mut pooler = pooler.set("server_login_retry", 0).start().await;
    assert_eq!(logs_in(&pooler).await, "in");

    fake.set_login(Login::Plain("second".into()));
    let console = pooler.console().await;
    console.run("RECONNECT").await;
    assert_eq!(logs_in(&pooler).await, WRONG);
    pooler.reload(|setup| setup.file("clerk", "second")).await;
    assert_eq!(logs_in(&pooler).await, "in");

    // A file that is gone changes nothing.
    fs::remove_file(pooler.dir().join("clerk")).unwrap();
    assert!(console.try_run("RELOAD").await.is_err());
    let line = pooler
        .wait_for_log("shop: password_file: cannot be read")
        .await;
    assert!(line.contains("clerk"), "{line}");
    console.run("RECONNECT").await;
    assert_eq!(logs_in(&pooler).await, "in");
}

#[tokio::test]
async fn a_password_may_come_from_the_environment() {
    let fake = asking_for("from outside").await;
    let pooler = shop(&fake, "password_env=CLERK_PASSWORD")
        .env("CLERK_PASSWORD", "from outside")
        .start()
        .await;
    assert_eq!(logs_in(&pooler).await, "in");

    let exit = shop(&fake, "password_env=NOBODYS_PASSWORD")
        .run_to_exit()
        .await;
    let told = "shop: password_env: there is no environment variable NOBODYS_PASSWORD";
    assert!(exit.log.contains(told), "{}", exit.log);
}

/// A directory as Kubernetes mounts a secret: `userlist.txt` leads through `..data`, which is
/// swapped as a whole.
fn mount(dir: &Path, version: &str, userlist: &str) {
    let data = dir.join(version);
    fs::create_dir(&data).unwrap();
    fs::write(data.join("userlist.txt"), userlist).unwrap();
    let next = dir.join("..data_tmp");
    symlink(version, &next).unwrap();
    fs::rename(&next, dir.join("..data")).unwrap();
    let link = dir.join("userlist.txt");
    if !link.is_symlink() {
        symlink("..data/userlist.txt", link).unwrap();
    }
}

#[tokio::test]
async fn a_user_list_may_be_a_mounted_secret_that_is_swapped() {
    let fake = FakeServer::start().await;
    let mounted = Scratch::new("secrets").unwrap();
    let secrets = mounted.path();
    let lines =
        |password: &str| format!("\"alice\" \"{password}\"\n\"testkit_admin\" \"testkit_admin\"\n");
    mount(secrets, "..2026_01", &lines("old"));
    let pooler = pgusher(1)
        .database("shop", &fake.conn_info("shop"))
        .set("auth_file", secrets.join("userlist.txt").display())
        .start()
        .await;
    let login = async |password| outcome(&pooler, "alice", password, "shop").await;
    assert_eq!(login("old").await, "in");

    mount(secrets, "..2026_02", &lines("new"));
    let refused = "FATAL 08P01 SASL authentication failed";
    assert_eq!(login("new").await, refused);
    pooler.console().await.run("RELOAD").await;
    assert_eq!(login("new").await, "in");
    assert_eq!(login("old").await, refused);
}

#[tokio::test]
async fn files_of_secrets_that_everybody_may_read_are_warned_of() {
    let fake = FakeServer::start().await;
    let setup = shop(&fake, "password_file={dir}/clerk").file("clerk", "x");
    let pooler = setup.start().await;
    let console = pooler.console().await;
    let (userlist, clerk) = (
        pooler.dir().join("userlist.txt"),
        pooler.dir().join("clerk"),
    );
    let warning = "holds secrets and everybody may read it";
    for (mode, warnings) in [(0o644, 2), (0o604, 2), (0o640, 0), (0o600, 0)] {
        for file in [&userlist, &clerk] {
            fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
        }
        let reloaded = pooler.log_count("RELOAD: 0 settings changed");
        let before = pooler.log_count(warning);
        console.run("RELOAD").await;
        pooler
            .wait_for_log_count("RELOAD: 0 settings changed", reloaded + 1)
            .await;
        let warned = pooler.log_count(warning) - before;
        assert_eq!(warned, warnings, "{mode:04o}\n{}", pooler.log());
    }
}
