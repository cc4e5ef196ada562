//! Parses, wires, runs. The wiring (`wire`) is the only place that names the store's kind and the list of connectors together.

mod wire;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use keyfall::cli::{self, Cli, CliError, Command, Exit, Output, note};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

fn main() -> ExitCode {
    // No core dump and no debugger of the same user: keys and secrets pass through nearly every command.
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        note(&format!("error: memory could not be kept out of core dumps: {error}"));
        return exit(Exit::Error);
    }
    // Before anything else that could: whoever builds a TLS client or server later finds this one, and no other is linked.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        note("error: a TLS provider was installed before ring's");
        return exit(Exit::Error);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            note(&format!("error: no threads could be started: {error}"));
            return exit(Exit::Error);
        }
    };
    let output = Output { format: cli.output };
    let ended = runtime.block_on(async {
        match cli.command {
            Command::Init(args) => wire::init(&args, output).await.map(|()| Exit::Ok).map_err(report),
            Command::Serve(args) => wire::serve(args).await.map(|()| Exit::Ok).map_err(report),
            Command::Restore(args) => wire::restore(&args, output).await.map(|()| Exit::Ok).map_err(report),
            Command::MigrateStore(args) => wire::migrate_store(&args, output)
                .await
                .map(|()| Exit::Ok)
                .map_err(report),
            Command::Config(command) => wire::show_config(&command, output).map(|()| Exit::Ok).map_err(report),
            Command::Asking(command) => cli::run(command, &cli.context, output).await.map_err(refused),
        }
    });
    exit(ended.unwrap_or_else(|code| code))
}

fn exit(code: Exit) -> ExitCode {
    ExitCode::from(code as u8)
}

/// Help is no error; a wrong command line is one of its own kind.
fn usage(error: &clap::Error) -> ExitCode {
    // Nobody is left to tell when the terminal is gone.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => exit(Exit::Ok),
        _ => exit(Exit::Usage),
    }
}

fn report(error: anyhow::Error) -> Exit {
    let closed_pipe = error
        .downcast_ref::<CliError>()
        .is_some_and(|error| matches!(error, CliError::ClosedPipe));
    if closed_pipe {
        return Exit::Ok;
    }
    note(&format!("error: {error:#}"));
    Exit::Error
}

fn refused(error: CliError) -> Exit {
    let code = error.exit();
    if code != Exit::Ok {
        note(&format!("error: {:#}", anyhow::Error::new(error)));
    }
    code
}
