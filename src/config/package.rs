//! What package.json says about starting an app. Reads that one file and looks whether the
//! declared packages are there; knows nothing of npm's network side.

use super::json;
use serde_json::Value;
use std::io::ErrorKind;
use std::path::Path;

/// The parts of package.json that matter for a start.
#[derive(Debug)]
pub struct Package {
    pub name: String,
    pub version: String,
    /// `main`, if it says so.
    pub main: Option<String>,
    scripts: Vec<(String, String)>,
    dependencies: Vec<String>,
}

impl Package {
    /// None if the folder has no package.json; an error if it has one that cannot be read.
    pub fn read(dir: &Path) -> Result<Option<Package>, String> {
        let text = match std::fs::read_to_string(dir.join("package.json")) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("package.json cannot be read: {error}")),
        };
        let value = json::parse(&text).map_err(|(place, why)| {
            format!("package.json:{}:{}: {why}", place.line, place.column)
        })?;
        let text_of = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let object_of = |key: &str| {
            value
                .get(key)
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
        };
        Ok(Some(Package {
            name: text_of("name").unwrap_or_default(),
            version: text_of("version").unwrap_or_default(),
            main: text_of("main"),
            scripts: object_of("scripts")
                .filter_map(|(name, line)| Some((name.clone(), line.as_str()?.to_owned())))
                .collect(),
            dependencies: object_of("dependencies")
                .map(|(name, _)| name.clone())
                .collect(),
        }))
    }

    pub fn script(&self, name: &str) -> Option<&str> {
        self.scripts
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, line)| line.as_str())
    }

    /// A declared package that is installed neither here nor in a folder above, where a
    /// workspace keeps it.
    pub fn missing_module(&self, dir: &Path) -> Option<&str> {
        // Yarn's plug'n'play installs no node_modules at all.
        if dir
            .ancestors()
            .any(|above| above.join(".pnp.cjs").is_file())
        {
            return None;
        }
        let installed = |name: &str| {
            dir.ancestors()
                .any(|above| above.join("node_modules").join(name).exists())
        };
        self.dependencies
            .iter()
            .map(String::as_str)
            .find(|name| !installed(name))
    }
}
