//! Which requests belong to which app, when some apps say and some do not. Pure.

use front::roster::Routes;

/// What one app says about its place.
#[derive(Debug)]
pub struct Wish<'a> {
    pub name: &'a str,
    /// In the roster's form; None: it does not say.
    pub path: Option<&'a str>,
    pub hosts: &'a [String],
}

impl Wish<'_> {
    fn is_silent(&self) -> bool {
        self.path.is_none() && self.hosts.is_empty()
    }
}

/// Gives every app its routes, in the same order.
///
/// An app gets what it says. One that says nothing is the default app if it is the only such app
/// and nobody else asked to be the default; else it is at `/` and its name.
pub fn place(wishes: &[Wish<'_>]) -> Result<Vec<Routes>, String> {
    let claimed = wishes
        .iter()
        .any(|wish| wish.path == Some("") && wish.hosts.is_empty());
    let silent = wishes.iter().filter(|wish| wish.is_silent()).count();
    let lone = silent == 1 && !claimed;
    let mut placed: Vec<Routes> = Vec::with_capacity(wishes.len());
    for wish in wishes {
        let path = match wish.path {
            Some(path) => path.to_owned(),
            None if lone || !wish.hosts.is_empty() => String::new(),
            None => format!("/{}", plain(wish.name)?),
        };
        let routes = Routes {
            path,
            hosts: wish.hosts.to_vec(),
        };
        if let Some((other, _)) = wishes
            .iter()
            .zip(&placed)
            .find(|(_, other)| collide(&routes, other))
        {
            return Err(format!(
                "apps `{}` and `{}` both want {}; give one of them another `path` or `host`",
                other.name,
                wish.name,
                shown(&routes),
            ));
        }
        placed.push(routes);
    }
    Ok(placed)
}

/// A route as a person reads it.
pub fn shown(routes: &Routes) -> String {
    let path = if routes.path.is_empty() {
        "/"
    } else {
        routes.path.as_str()
    };
    match routes.hosts.as_slice() {
        [] => path.to_owned(),
        hosts => hosts
            .iter()
            .map(|host| format!("{host}{path}"))
            .collect::<Vec<_>>()
            .join(" "),
    }
}

fn plain(name: &str) -> Result<&str, String> {
    match name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-._~@".contains(&b))
    {
        true => Ok(name),
        false => Err(format!(
            "app `{name}` needs a `path`, because its name cannot stand in a URL"
        )),
    }
}

fn collide(one: &Routes, other: &Routes) -> bool {
    let share_host = one.hosts.is_empty() && other.hosts.is_empty()
        || one.hosts.iter().any(|host| other.hosts.contains(host));
    one.path == other.path && share_host
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(wishes: &[(&str, Option<&str>, &[&str])]) -> Result<Vec<String>, String> {
        let hosts: Vec<Vec<String>> = wishes
            .iter()
            .map(|w| w.2.iter().map(|host| (*host).to_owned()).collect())
            .collect();
        let wishes: Vec<Wish<'_>> = wishes
            .iter()
            .zip(&hosts)
            .map(|(w, hosts)| Wish {
                name: w.0,
                path: w.1,
                hosts,
            })
            .collect();
        place(&wishes).map(|routes| routes.iter().map(shown).collect())
    }

    #[test]
    fn who_stands_where() {
        let own = |routes: &[&str]| Ok(routes.iter().map(|r| (*r).to_owned()).collect());
        assert_eq!(placed(&[("chat", None, &[])]), own(&["/"]));
        assert_eq!(
            placed(&[
                ("chat", Some(""), &[]),
                ("echo", None, &[]),
                ("hello", None, &[])
            ]),
            own(&["/", "/echo", "/hello"]),
        );
        assert_eq!(
            placed(&[("a", None, &[]), ("b", None, &[])]),
            own(&["/a", "/b"])
        );
        assert_eq!(
            placed(&[("a", Some("/x"), &[]), ("b", None, &[])]),
            own(&["/x", "/"])
        );
        assert_eq!(
            placed(&[
                ("a", None, &["a.test"]),
                ("b", None, &["b.test", "c.test"]),
                ("c", None, &[])
            ]),
            own(&["a.test/", "b.test/ c.test/", "/"]),
        );
        assert_eq!(
            placed(&[("a", Some("/x"), &["a.test"]), ("b", Some("/x"), &[])]),
            own(&["a.test/x", "/x"])
        );
    }

    #[test]
    fn two_apps_never_share_a_place() {
        for wishes in [
            vec![("one", Some("/x"), &[][..]), ("two", Some("/x"), &[][..])],
            vec![("one", Some(""), &[]), ("two", Some(""), &[])],
            vec![
                ("one", Some("/two"), &[]),
                ("two", None, &[]),
                ("three", None, &[]),
            ],
            vec![
                ("one", None, &["a.test"]),
                ("two", None, &["b.test", "a.test"]),
            ],
        ] {
            let message = placed(&wishes).expect_err("a collision");
            assert!(
                message.contains("`one`") && message.contains("`two`"),
                "{message}"
            );
        }
        assert!(placed(&[("a b", None, &[]), ("c", None, &[])]).is_err());
    }
}
