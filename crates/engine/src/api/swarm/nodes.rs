//! Nodes: the engines of a swarm.

use crate::{Docker, Error, Filters, http::Call, operation::Operation, reference::ObjectId, schema};

impl Docker {
    /// Lists the nodes of the swarm. Filters are `id`, `label`, `membership`, `name`, `node.label` and `role`.
    /// API: `NodeList`.
    ///
    /// # Errors
    /// [`Error::is_not_swarm_manager`] if the engine manages no swarm; whatever a call may fail with.
    pub async fn list_nodes(&self, filters: &Filters) -> Result<Vec<schema::Node>, Error> {
        self.json(filters.apply(Call::new(Operation::NodeList, []))).await
    }

    /// Everything of one node. API: `NodeInspect`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is none; [`Error::is_not_swarm_manager`] if the engine manages no swarm;
    /// whatever a call may fail with.
    pub async fn inspect_node(&self, node: &ObjectId) -> Result<schema::Node, Error> {
        self.json(Call::new(Operation::NodeInspect, [node.as_str()])).await
    }

    /// Takes a node out of the swarm; with `force` also one that is not down. API: `NodeDelete`.
    ///
    /// # Errors
    /// [`Error::Api`] with the engine's words if it is a manager or not down; [`Error::is_not_found`] if there is none;
    /// [`Error::is_not_swarm_manager`] if the engine manages no swarm; whatever a call may fail with.
    pub async fn remove_node(&self, node: &ObjectId, force: bool) -> Result<(), Error> {
        self.done(Call::new(Operation::NodeDelete, [node.as_str()]).flag("force", force)).await
    }

    /// Changes name, labels, role and availability of a node that still is at `version`. API: `NodeUpdate`.
    ///
    /// # Errors
    /// [`Error::is_out_of_sequence`] if it changed meanwhile; [`Error::is_not_found`] if there is none;
    /// [`Error::is_not_swarm_manager`] if the engine manages no swarm; whatever a call may fail with.
    pub async fn update_node(&self, node: &ObjectId, version: u64, spec: &schema::NodeSpec) -> Result<(), Error> {
        let call = Call::new(Operation::NodeUpdate, [node.as_str()]).query("version", version.to_string());
        self.done(call.json(spec, &[])?).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_null_and_missing() {
        let text = r#"[{"ID":"a","Version":{"Index":9},"Spec":{"Labels":null,"Role":"manager","Availability":"active"},
            "Description":{"Hostname":"<b>h"},"Status":null},{}]"#;
        let nodes: Vec<schema::Node> = serde_json::from_str(text).unwrap();
        assert_eq!(nodes.first().unwrap().version.as_ref().unwrap().index, Some(9));
        assert_eq!(nodes.last().unwrap(), &schema::Node::default());
    }
}
