//! Build script shared by every crate whose binaries link DuckDB: writes the library's folder into
//! their run path, so that neither users nor tests ever set LD_LIBRARY_PATH.

fn main() {
    println!("cargo:rerun-if-env-changed=DUCKDB_LIB_DIR");
    // A shipped binary finds the library beside itself or in ../lib, as the Dockerfile lays it out.
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN:$ORIGIN/../lib");
    if let Ok(folder) = std::env::var("DUCKDB_LIB_DIR") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
