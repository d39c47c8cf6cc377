//! The server with a clock for its jobs that stands, until whoever has started it moves it: each line of its standard
//! input is a number of seconds, and is answered by a line on its standard output once the clock has moved. It is ahead from
//! the start by the seconds in the environment's `CLOCK_AHEAD`.

use std::{
    env,
    error::Error,
    io, thread,
    time::{Duration, SystemTime},
};

use merganser_server::{Server, config::Command, engine::JobClock, stop_signal, telemetry};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Command::Serve(mut config) = Command::from_process()? else {
        return Err("it only serves".into());
    };
    let ahead = env::var("CLOCK_AHEAD").map_or(Ok(0), |seconds| seconds.parse())?;
    let clock = JobClock::standing_at(SystemTime::now() + Duration::from_secs(ahead));
    config.engine.job_clock = clock.clone();
    telemetry::start(&config.log);
    let stop = stop_signal()?;
    let server = Server::start(*config).await?;
    println!("listening on {}", server.url()?);
    thread::spawn(move || follow(&clock));
    Ok(server.run(stop).await?)
}

/// Moves the clock as it is told to, until nobody is there to tell.
fn follow(clock: &JobClock) {
    for line in io::stdin().lines().map_while(Result::ok) {
        match line.parse() {
            Ok(seconds) => {
                clock.advance(Duration::from_secs(seconds));
                println!("advanced by {seconds}");
            }
            Err(error) => eprintln!("{line:?} is no number of seconds: {error}"),
        }
    }
}
