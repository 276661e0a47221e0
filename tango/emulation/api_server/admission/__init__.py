"""Admission: what a cluster's owner demands of objects beyond their form, in the order in which kube-apiserver asks its plug-ins.

`chain` asks them: first those that fill in (LimitRange, PriorityClass), then, once the object is known to be valid, those that refuse
(LimitRange, Pod Security, PriorityClass), quotas last. What they refuse is a 403 that names the object and the rule.
"""

from tango.emulation.api_server.admission.chain import AdmissionChain

__all__ = ["AdmissionChain"]
