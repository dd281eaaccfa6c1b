//! The two distributions of one engine. One has the system image and is made anew for every other image; the other has the
//! data and is made once.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::archive;
use crate::error::Error;
use crate::mark::{Entry, Mark};
use crate::program::Program;

/// Unpacking some hundred megabytes, while a virus scanner looks at each file.
const IMPORT: Duration = Duration::from_secs(900);
const REMOVE: Duration = Duration::from_secs(120);
const TERMINATE: Duration = Duration::from_secs(60);
/// What WSL calls a distribution's disk.
const DISK: &str = "ext4.vhdx";

/// What the distributions are called, and where their disks are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Berth's alone.
    pub folder: PathBuf,
    /// The name of the one with the system.
    pub system: String,
    /// The name of the one with the data.
    pub data: String,
}

/// What was done to have them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// The system was imported.
    pub system: bool,
    /// It had been made before, and somebody unregistered it.
    pub system_was_gone: bool,
    /// The data's was imported, and is empty.
    pub data: bool,
}

/// The two distributions of one engine.
#[derive(Clone, Debug)]
pub struct Distributions {
    program: Program,
    place: Place,
}

/// How a distribution stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Absent,
    /// Ours, and made to its end.
    Whole,
    /// Ours, and its making was cut off.
    Half,
    /// It was made, and is not there.
    Gone,
    Foreign,
}

impl Distributions {
    /// Those at this place, if they are there.
    #[must_use]
    pub fn new(program: Program, place: Place) -> Self {
        Self { program, place }
    }

    /// Their names and folder.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Has both of them there, the system's made from `archive`, whose id is `image`. It ends a system that runs from
    /// another image.
    ///
    /// # Errors
    ///
    /// WSL is not usable, a name is somebody else's, the data was taken away, or an import failed. Nothing of
    /// anybody else's is touched.
    pub async fn ensure(&self, image: &str, archive: &Path) -> Result<Made, Error> {
        self.program.check().await?;
        let registered = self.program.names().await?;
        let mut mark = Mark::load(&self.mark_file())?;
        let Place { system, data, .. } = &self.place;
        let data_stands = self.standing(data, &self.data_folder(), mark.data.as_ref(), &registered);
        let system_stands = self.standing(system, &self.system_folder(), mark.system.as_ref(), &registered);
        // Before anything is made.
        for (name, standing) in [(data, data_stands), (system, system_stands)] {
            if standing == Standing::Foreign {
                return Err(Error::NameTaken { name: name.clone() });
            }
        }
        let disk = self.data_folder().join(DISK);
        match (data_stands, disk.exists()) {
            (Standing::Gone, false) => return Err(Error::DataGone { name: data.clone(), disk }),
            (Standing::Gone, true) | (Standing::Absent, true) => {
                return Err(Error::Unregistered { name: data.clone(), disk });
            }
            _ => {}
        }
        let mut made = Made { system_was_gone: system_stands == Standing::Gone, ..Made::default() };
        fs::create_dir_all(&self.place.folder).map_err(Error::file("create", &self.place.folder))?;
        if data_stands != Standing::Whole {
            self.make_data(&mut mark, data_stands, image, archive).await?;
            made.data = true;
        }
        let same = mark.system.as_ref().is_some_and(|entry| entry.image == image);
        if system_stands != Standing::Whole || !same {
            self.make_system(&mut mark, system_stands, image, archive).await?;
            made.system = true;
        }
        Ok(made)
    }

    fn standing(&self, name: &str, folder: &Path, entry: Option<&Entry>, registered: &[String]) -> Standing {
        let is_registered = registered.iter().any(|other| other.eq_ignore_ascii_case(name));
        let entry = entry.filter(|entry| entry.name.eq_ignore_ascii_case(name));
        let has_disk = folder.join(DISK).exists();
        match entry {
            // Its disk is where this engine has it made: nobody else's is.
            Some(entry) if is_registered && has_disk => {
                if entry.whole {
                    Standing::Whole
                } else {
                    Standing::Half
                }
            }
            _ if is_registered => Standing::Foreign,
            Some(entry) if entry.whole => Standing::Gone,
            Some(_) => Standing::Half,
            None => Standing::Absent,
        }
    }

    async fn make_data(&self, mark: &mut Mark, stands: Standing, image: &str, system: &Path) -> Result<(), Error> {
        let name = &self.place.data;
        if stands == Standing::Half {
            // It was never used.
            self.clear(name, &self.data_folder()).await?;
        }
        let small = self.place.folder.join("data.tar");
        let (from, to) = (system.to_path_buf(), small.clone());
        tokio::task::spawn_blocking(move || archive::write(&from, &to))
            .await
            .unwrap_or_else(|error| Err(Error::Archive { path: system.to_path_buf(), why: error.to_string() }))?;
        let entry = Entry { name: name.clone(), image: image.to_owned(), whole: false };
        mark.data = Some(entry.clone());
        mark.save(&self.mark_file())?;
        self.import(name, &self.data_folder(), &small).await?;
        mark.data = Some(Entry { whole: true, ..entry });
        mark.save(&self.mark_file())?;
        let _ = fs::remove_file(&small);
        Ok(())
    }

    async fn make_system(&self, mark: &mut Mark, stands: Standing, image: &str, archive: &Path) -> Result<(), Error> {
        let name = &self.place.system;
        if !archive.is_file() {
            return Err(Error::Archive { path: archive.to_path_buf(), why: "it is not there".to_owned() });
        }
        let entry = Entry { name: name.clone(), image: image.to_owned(), whole: false };
        // First: one that is half removed is to be removed.
        mark.system = Some(entry.clone());
        mark.save(&self.mark_file())?;
        if stands != Standing::Absent {
            self.clear(name, &self.system_folder()).await?;
        }
        self.import(name, &self.system_folder(), archive).await?;
        mark.system = Some(Entry { whole: true, ..entry });
        mark.save(&self.mark_file())
    }

    /// Removes one of ours, of which anything may be left.
    async fn clear(&self, name: &str, folder: &Path) -> Result<(), Error> {
        let registered = self.program.names().await?.iter().any(|other| other.eq_ignore_ascii_case(name));
        if registered && folder.join(DISK).exists() {
            self.end(name).await?;
            self.call(&["--unregister", name], name, REMOVE).await?;
        } else if registered {
            return Err(Error::NameTaken { name: name.to_owned() });
        }
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::file("remove", folder)(error)),
            _ => Ok(()),
        }
    }

    async fn import(&self, name: &str, folder: &Path, archive: &Path) -> Result<(), Error> {
        fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
        let arguments = [
            "--import".as_ref(),
            name.as_ref(),
            folder.as_os_str(),
            archive.as_os_str(),
            "--version".as_ref(),
            "2".as_ref(),
        ];
        let output = self.program.run(arguments, IMPORT).await?;
        match output.code {
            0 => Ok(()),
            _ => Err(Error::refused(&format!("wsl --import {name}"), name, &output)),
        }
    }

    /// Ends the system's distribution without order, if it is ours: whoever runs in it was asked before. The data's ends
    /// by itself.
    ///
    /// # Errors
    ///
    /// It cannot be ended.
    pub async fn terminate(&self) -> Result<(), Error> {
        let mark = Mark::load(&self.mark_file())?;
        let ours = mark.system.is_some_and(|entry| entry.name.eq_ignore_ascii_case(&self.place.system));
        if ours && self.system_folder().join(DISK).exists() { self.end(&self.place.system).await } else { Ok(()) }
    }

    async fn end(&self, name: &str) -> Result<(), Error> {
        self.call(&["--terminate", name], name, TERMINATE).await
    }

    /// Removes both, with all data. What is somebody else's stays.
    ///
    /// # Errors
    ///
    /// One cannot be removed.
    pub async fn remove(&self) -> Result<(), Error> {
        let file = self.mark_file();
        let mut mark = Mark::load(&file)?;
        if let Some(entry) = &mark.system {
            self.clear(&entry.name, &self.system_folder()).await?;
            mark.system = None;
            mark.save(&file)?;
        }
        if let Some(entry) = &mark.data {
            self.clear(&entry.name, &self.data_folder()).await?;
        }
        match fs::remove_file(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::file("remove", &file)(error)),
            _ => Ok(()),
        }
    }

    /// Whether anything of theirs may be there.
    #[must_use]
    pub fn exist(&self) -> bool {
        self.mark_file().exists()
    }

    async fn call(&self, arguments: &[&str], name: &str, patience: Duration) -> Result<(), Error> {
        let output = self.program.run(arguments, patience).await?;
        match output.code {
            0 => Ok(()),
            _ => Err(Error::refused(&format!("wsl {}", arguments.join(" ")), name, &output)),
        }
    }

    fn mark_file(&self) -> PathBuf {
        self.place.folder.join("distributions.json")
    }

    fn system_folder(&self) -> PathBuf {
        self.place.folder.join("system")
    }

    fn data_folder(&self) -> PathBuf {
        self.place.folder.join("data")
    }
}
