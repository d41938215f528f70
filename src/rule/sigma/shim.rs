//! Fields that SigmaHQ's Kubernetes rules write in ways no native event has, and what they mean.

use super::plain_test;
use crate::rule::ir::{Expr, Op, Relation, Text};

/// Names that no native event has, but that [`shim`] knows.
pub(super) const NAMES: [&str; 3] = ["apiGroup", "hostPath", "capabilities"];

/// What a question about such a field means.
pub(super) fn shim(name: &str, op: &Op) -> Option<Expr> {
    const VOLUMES: [&str; 3] = [
        "requestObject.spec.volumes.hostPath",
        "requestObject.spec.template.spec.volumes.hostPath",
        "requestObject.spec.jobTemplate.spec.template.spec.volumes.hostPath",
    ];
    const CAPABILITIES: [&str; 6] = [
        "requestObject.spec.containers.securityContext.capabilities",
        "requestObject.spec.initContainers.securityContext.capabilities",
        "requestObject.spec.ephemeralContainers.securityContext.capabilities",
        "requestObject.spec.template.spec.containers.securityContext.capabilities",
        "requestObject.spec.template.spec.initContainers.securityContext.capabilities",
        "requestObject.spec.jobTemplate.spec.template.spec.containers.securityContext.capabilities",
    ];
    let any = |paths: &[&str]| Expr::Any(paths.iter().map(|path| plain_test(path, Op::Exists)).collect());
    let anything = matches!(op, Op::Text { pattern: Text::Plain(Relation::Contains, text), .. } if text.is_empty());
    match name {
        "apiGroup" => Some(plain_test("objectRef.apiGroup", op.clone())),
        "hostPath" if anything => Some(any(&VOLUMES)),
        "capabilities" if anything => Some(any(&CAPABILITIES)),
        "responseStatus.code" => match op {
            Op::Text { pattern: Text::Plain(Relation::Is, text), .. } if text.eq_ignore_ascii_case("allow") => {
                Some(plain_test("annotations.authorization.k8s.io/decision", op.clone()))
            }
            _ => None,
        },
        _ => None,
    }
}
