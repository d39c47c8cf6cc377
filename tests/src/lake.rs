//! Catalogs, sources, named queries and pipelines as a configuration file has them.

use merganser_server::Config;

/// Takes catalogs, sources, secrets, queries and pipelines from the text of a configuration file.
///
/// # Panics
/// When the text is refused.
pub fn configure(config: &mut Config, toml: &str) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), toml).expect("a text that is written");
    let options = ["--database".as_ref(), ":memory:".as_ref(), "--config".as_ref(), file.path().as_os_str()];
    let read = Config::from_arguments(options).expect("a configuration");
    config.engine.lake = read.engine.lake;
    config.engine.queries = read.engine.queries;
    config.engine.pipelines = read.engine.pipelines;
}
