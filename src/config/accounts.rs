//! Users and groups by name or number, as /etc/passwd and /etc/group have them. Both are read by
//! ourselves: a static binary has no other directory of users, and a bare root has neither file, so
//! that there numbers must do. Pure but for [`Accounts::read`].

use front::order;
use front::sys::identity::Identity;
use std::collections::BTreeMap;
use std::fs;

/// What the machine knows about users.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    passwd: String,
    group: String,
}

/// A user as a process can be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub identity: Identity,
    /// Name and home, if /etc/passwd has them.
    name: Option<(String, String)>,
}

impl Account {
    /// What a program expects to find about its user.
    pub fn variables(&self) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::new();
        if let Some((name, home)) = &self.name {
            variables.insert("HOME".to_owned(), home.clone());
            variables.insert("USER".to_owned(), name.clone());
            variables.insert("LOGNAME".to_owned(), name.clone());
        }
        variables
    }
}

impl Accounts {
    pub fn read() -> Accounts {
        let text = |file| fs::read_to_string(file).unwrap_or_default();
        Accounts {
            passwd: text("/etc/passwd"),
            group: text("/etc/group"),
        }
    }

    /// A user, and a group in place of its own one, by names or numbers. A number that /etc/passwd
    /// does not have gets the group of the same number.
    pub fn find(&self, user: &str, group: Option<&str>) -> Result<Account, String> {
        let number = number(user);
        let known = records(&self.passwd).find(|fields| {
            let uid = fields.get(2).and_then(|text| self::number(text));
            fields.first() == Some(&user) || number.is_some() && uid == number
        });
        let field = |at: usize| known.as_ref().and_then(|fields| fields.get(at).copied());
        let uid = field(2).and_then(self::number).or(number);
        let Some(uid) = uid else {
            return Err(format!(
                "there is no user `{user}` in /etc/passwd; correct the name, or give a number"
            ));
        };
        let own = field(3).and_then(self::number).unwrap_or(uid);
        let gid = group.map_or(Ok(own), |group| self.group(group))?;
        let name = field(0).map(|name| (name.to_owned(), field(5).unwrap_or("/").to_owned()));
        let mut groups: Vec<u32> = records(&self.group)
            .filter(|fields| {
                let members = fields.get(3).copied().unwrap_or("");
                field(0).is_some_and(|name| members.split(',').any(|member| member == name))
            })
            .filter_map(|fields| self::number(fields.get(2)?))
            .collect();
        groups.push(gid);
        order::sort_by(&mut groups, u32::cmp);
        groups.dedup();
        Ok(Account {
            identity: Identity { uid, gid, groups },
            name,
        })
    }

    /// A user as one would write it: by name, if it has one.
    pub fn name_of(&self, uid: u32) -> String {
        let mut all = records(&self.passwd);
        let known = all.find(|fields| fields.get(2).and_then(|text| number(text)) == Some(uid));
        let name = known.and_then(|fields| fields.first().copied());
        name.map_or(uid.to_string(), str::to_owned)
    }

    /// A group by name or number.
    pub fn group(&self, group: &str) -> Result<u32, String> {
        let named = records(&self.group).find(|fields| fields.first() == Some(&group));
        let gid = named.and_then(|fields| number(fields.get(2)?));
        gid.or_else(|| number(group)).ok_or_else(|| {
            format!("there is no group `{group}` in /etc/group; correct the name, or give a number")
        })
    }
}

fn records(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect())
}

/// An id. The highest number means "nobody in particular" to setresuid(2).
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits);
    number.filter(|number| *number != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:Web:/var/www:/bin/false\nbroken\n"
                .to_owned(),
            group: "root:x:0:\nweb:x:34:\nssl:x:50:mail,web\nlogs:x:51:webmaster\n".to_owned(),
        }
    }

    #[test]
    fn users_by_name_and_number() {
        type Row<'a> = (&'a str, Option<&'a str>, (u32, u32, &'a [u32]));
        let table: [Row<'_>; 7] = [
            ("web", None, (33, 34, &[34, 50])),
            ("33", None, (33, 34, &[34, 50])),
            ("web", Some("logs"), (33, 51, &[50, 51])),
            ("web", Some("99"), (33, 99, &[50, 99])),
            ("root", None, (0, 0, &[0])),
            ("4000", None, (4000, 4000, &[4000])),
            ("4000", Some("web"), (4000, 34, &[34])),
        ];
        for (user, group, (uid, gid, groups)) in table {
            let found = accounts().find(user, group).expect(user).identity;
            let groups = groups.to_vec();
            assert_eq!(found, Identity { uid, gid, groups }, "{user} {group:?}");
        }
    }

    #[test]
    fn who_is_not_there_is_named() {
        for (user, group) in [
            ("nginx", None),
            ("", None),
            ("-1", None),
            ("4294967295", None),
            ("broken", None),
            ("web", Some("nobody")),
        ] {
            let why = accounts().find(user, group).expect_err(user);
            assert!(why.contains("there is no"), "{why}");
        }
    }

    #[test]
    fn a_known_user_has_a_home() {
        let web = accounts().find("33", None).expect("web").variables();
        assert_eq!(web.get("HOME").map(String::as_str), Some("/var/www"));
        assert_eq!(web.get("USER").map(String::as_str), Some("web"));
        assert_eq!(accounts().name_of(33), "web");
        assert_eq!(accounts().name_of(4000), "4000");
        let unknown = accounts().find("4000", None).expect("a number");
        assert!(unknown.variables().is_empty());
    }
}
